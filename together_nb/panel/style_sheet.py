"""The panel's style, in the front end's own colours, and what replaces a panel that cannot run."""

from __future__ import annotations

from together_nb.panel.status_line import State
from together_nb.render.token_html import SHADE_CSS, TIP_CSS
from together_nb.views.column import column_css

LOST = "The panel of together_nb stood here. Run this cell again to have it back."

_STYLE = """
.together-nb-panel { container-type: inline-size; box-sizing: border-box; width: 100%; padding: 2px 2px 6px; overflow: visible;
  color: var(--jp-ui-font-color1, #212121); background: var(--jp-layout-color0, #fff); }
.together-nb-panel .tnb-columns { display: grid; grid-template-columns: minmax(0, 1fr) 270px; gap: 22px; overflow: visible; }
@container (max-width: 760px) {
  .together-nb-panel .tnb-columns { grid-template-columns: minmax(0, 1fr); gap: 12px; }
}
.together-nb-panel .tnb-main, .together-nb-panel .tnb-side { gap: 8px; overflow: visible; min-width: 0; }
.together-nb-panel .tnb-parameters { display: grid; gap: 6px 22px; overflow: visible; }

.together-nb-panel > .widget-html { display: none; }

/* Fields: the name before or above the box, the box as wide as there is room */
.together-nb-panel .jupyter-widgets { margin-left: 0; margin-right: 0; }
.together-nb-panel .widget-inline-hbox { width: auto; min-width: 0; flex: 1 1 auto; overflow: visible; }
.together-nb-panel .widget-label { width: auto; min-width: 0; padding: 0; margin-right: 6px; text-align: left;
  font-family: var(--jp-code-font-family, monospace); font-size: 12px; color: var(--jp-ui-font-color1, #212121); overflow: visible; }
.together-nb-panel input, .together-nb-panel textarea, .together-nb-panel select {
  color: var(--jp-ui-font-color1, #212121) !important; background-color: var(--jp-layout-color1, #fff) !important; }
.together-nb-panel ::placeholder { color: var(--jp-ui-font-color2, #616161); opacity: 1; font-style: italic; }
.together-nb-panel .tnb-top { display: grid; grid-template-columns: minmax(0, 1fr) 170px; gap: 16px; align-items: start; overflow: visible; }
@container (max-width: 430px) { .together-nb-panel .tnb-top { grid-template-columns: minmax(0, 1fr); gap: 0; } }
.together-nb-panel .tnb-model { overflow: visible; }
.together-nb-panel .tnb-top .widget-text input { width: 100%; }
.together-nb-panel .widget-textarea { display: flex; flex-direction: column; align-items: stretch; height: auto; width: auto; }
.together-nb-panel .widget-textarea textarea { width: auto; height: 62px; min-height: 40px; resize: vertical; padding: 6px 8px;
  line-height: 1.45; flex: 0 0 auto; }
.together-nb-panel .tnb-prompt textarea { height: 84px; }
.together-nb-panel .widget-textarea .widget-label { height: 20px; line-height: 20px; }

/* A parameter */
.together-nb-panel .tnb-parameter { overflow: visible; min-width: 0; align-self: start; }
.together-nb-panel .tnb-parameter-head { display: flex; align-items: center; gap: 2px; overflow: visible; }
.together-nb-panel .tnb-parameter:not(.tnb-tall) .widget-label { flex: 1 1 auto; }
.together-nb-panel .tnb-parameter .widget-text input, .together-nb-panel .tnb-parameter .widget-dropdown select {
  flex: 0 0 92px; width: 92px; text-align: right; font-variant-numeric: tabular-nums; }
.together-nb-panel .tnb-tall .tnb-parameter-head { align-items: flex-start; }
.together-nb-panel .tnb-unset-button { flex: 0 0 22px; width: 22px; min-width: 22px; padding: 0; background: none; box-shadow: none;
  color: var(--jp-ui-font-color2, #616161); }
.together-nb-panel .tnb-unset .tnb-unset-button { visibility: hidden; }
.together-nb-panel .widget-slider { width: auto; height: 20px; margin: 0 26px 0 6px; }
.together-nb-panel .widget-slider .widget-label, .together-nb-panel .widget-slider .widget-readout { display: none; }
.together-nb-panel .tnb-unset .widget-slider { opacity: .4; }
.together-nb-panel .tnb-help, .together-nb-panel .tnb-wrong { width: auto; height: auto; flex: 0 0 auto; }
.together-nb-panel .tnb-help > .widget-html-content { font-size: 11px; line-height: 1.35; color: var(--jp-ui-font-color2, #616161); }
.together-nb-panel .tnb-wrong > .widget-html-content { font-size: 12px; line-height: 1.35; color: var(--jp-error-color0, #b71c1c); }
.together-nb-panel .widget-html-content { white-space: normal; overflow-wrap: anywhere; align-self: auto; }
.together-nb-panel .tnb-wrong:has(> .widget-html-content:empty), .together-nb-panel .tnb-error:has(> .widget-html-content:empty),
.together-nb-panel .tnb-help:has(> .widget-html-content:empty) { display: none; }

/* What is folded away */
.together-nb-panel .tnb-fold { gap: 4px; overflow: visible; }
.together-nb-panel .tnb-fold-button { width: auto; align-self: flex-start; padding: 0 8px 0 0; margin-left: 0; text-align: left; background: none; box-shadow: none; border: 0;
  color: var(--jp-ui-font-color1, #212121); }
.together-nb-panel .tnb-fold-button::before { content: "▾" / ""; display: inline-block; width: 1.3em; }
.together-nb-panel .tnb-fold-button.tnb-closed::before { content: "▸" / ""; }
.together-nb-panel .tnb-icon { font-size: 0; line-height: 1; }
.together-nb-panel .tnb-icon::before { content: "\\d7" / ""; font-size: 16px; line-height: 26px; }
.together-nb-panel .tnb-stop-button::before { content: "■" / ""; font-size: 12px; }

/* Buttons and the status line */
.together-nb-panel .tnb-buttons { display: flex; flex-wrap: wrap; gap: 8px; overflow: visible; }
.together-nb-panel .tnb-buttons .jupyter-button { width: auto; padding: 0 12px; flex: 0 0 auto; }
.together-nb-panel .jupyter-button i { margin-right: 5px; }
.together-nb-panel .jupyter-button:focus-visible, .together-nb-panel .noUi-handle:focus-visible {
  outline: 2px solid var(--jp-brand-color1, #1976d2); outline-offset: 1px; }
.together-nb-panel .tnb-status { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0 14px; min-height: 24px; overflow: visible;
  font-variant-numeric: tabular-nums; }
.together-nb-panel .tnb-status > * { flex: 0 1 auto; height: auto; margin: 0; line-height: 22px; }
.together-nb-panel .tnb-status .widget-html-content { line-height: 22px; }
.together-nb-panel .tnb-state { font-weight: 600; }
.together-nb-panel .tnb-state [class^="tnb-is-"] { display: none; }
STATES
.together-nb-panel .tnb-now-waiting, .together-nb-panel .tnb-now-answering { color: var(--jp-brand-color1, #1565c0); }
.together-nb-panel .tnb-now-failed, .together-nb-panel .tnb-now-lost { color: var(--jp-error-color0, #b71c1c); }
.together-nb-panel .tnb-figures > .widget-html-content { display: flex; flex-wrap: wrap; gap: 0 14px; color: var(--jp-ui-font-color2, #616161); }
.together-nb-panel .tnb-figures b { font-weight: 600; color: var(--jp-ui-font-color1, #212121); }

/* Tabs, each with a page of one height, so that nothing jumps */
.together-nb-panel .widget-tab { overflow: visible; }
.together-nb-panel .widget-tab > .lm-TabBar, .together-nb-panel .widget-tab > .p-TabBar { overflow-x: auto; min-height: 28px; }
.together-nb-panel .widget-tab > .lm-TabBar .lm-TabBar-tab { flex: 0 0 auto; min-width: 0; padding: 0 11px; max-width: none; }
.together-nb-panel .widget-tab > .widget-tab-contents { padding: 8px 10px; overflow: visible; }
.together-nb-panel .tnb-page { height: 360px; min-height: 160px; resize: vertical; overflow: hidden; gap: 6px; }
.together-nb-panel .tnb-page > * { flex: 0 0 auto; }
.together-nb-panel .tnb-page > .widget-html:only-child, .together-nb-panel .tnb-page > .tnb-end,
.together-nb-panel .tnb-page > .tnb-tokens, .together-nb-panel .tnb-page > .tnb-columns-scroll { flex: 1 1 0; min-height: 0; }
.together-nb-panel .tnb-page > .widget-html:only-child { overflow: auto; align-items: stretch; height: auto; }
.together-nb-panel .tnb-page > .widget-html:only-child > .widget-html-content { flex: 1 1 auto; min-width: 0; }
.together-nb-panel .tnb-end { display: flex; flex-flow: column-reverse; overflow: auto; overscroll-behavior: contain; }
.together-nb-panel .tnb-end > * { flex: 0 0 auto; margin-bottom: auto !important; overflow: visible; max-width: 100%; }
.together-nb-panel .tnb-end .jp-OutputArea-output { padding: 0; overflow-x: auto; }
.together-nb-panel .tnb-end .jp-OutputArea-child { padding: 0; }
.together-nb-panel .tnb-end .jp-OutputPrompt, .together-nb-panel .tnb-end .jp-OutputArea-prompt { display: none; }
.together-nb-panel .tnb-empty, .together-nb-panel .tnb-empty > .widget-html-content { color: var(--jp-ui-font-color2, #616161); font-size: 13px;
  line-height: 1.5; height: auto; }
.together-nb-panel .tnb-error { height: auto; }
.together-nb-panel .tnb-error > .widget-html-content { border-left: 3px solid var(--jp-error-color1, #d32f2f); padding: 4px 10px; line-height: 1.45;
  max-height: 8em; overflow: auto; flex: 1 1 auto;
  background: color-mix(in srgb, var(--jp-error-color1, #d32f2f) 10%, transparent); }
.together-nb-panel .tnb-none { gap: 8px; align-items: flex-start; }
.together-nb-panel .tnb-none .jupyter-button { width: auto; }
.together-nb-panel .tnb-hidden { display: none; }

/* Tokens */
.together-nb-panel .tnb-tokens { --tnb-strip: 9em; padding-bottom: var(--tnb-strip); box-sizing: border-box; overflow: hidden; }
.together-nb-panel .tnb-tokens-scroll { display: block; height: 100%; overflow: auto; padding: 2px; }
.together-nb-panel .tnb-tokens-text { display: block; overflow: visible; font-size: 14px; }
.together-nb-panel .tnb-tokens-scroll, .together-nb-panel .tnb-tokens-scroll * { position: static; }
.together-nb-panel .tnb-tokens-scroll .tnb-tip, .together-nb-panel .tnb-token > input { position: absolute; }
.together-nb-panel .tnb-tokens-text .widget-html, .together-nb-panel .tnb-tokens-text .widget-html-content {
  display: inline; white-space: pre-wrap; line-height: 1.9; font-size: 14px; }
.together-nb-panel .tnb-tokens-text .widget-label { display: none; }

/* Events, requests, history */
.together-nb-panel .tnb-lines p { display: flex; gap: 12px; margin: 0; line-height: 1.45; font-size: 12px; }
.together-nb-panel .tnb-lines time { flex: 0 0 5.5em; text-align: right; color: var(--jp-ui-font-color2, #616161);
  font-variant-numeric: tabular-nums; }
.together-nb-panel .tnb-lines code { white-space: pre-wrap; overflow-wrap: anywhere; background: none; padding: 0; color: inherit;
  font-family: var(--jp-code-font-family, monospace); }
.together-nb-panel .tnb-lines, .together-nb-panel .tnb-lines .widget-html { overflow: visible; height: auto; width: auto; margin: 0; }
.together-nb-panel h4 { margin: 8px 0 2px; font-size: 12px; font-weight: 600; color: var(--jp-ui-font-color2, #616161); }
.together-nb-panel section:first-child h4 { margin-top: 0; }
.together-nb-panel pre { margin: 0; padding: 6px 8px; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12px; line-height: 1.45;
  user-select: all; color: var(--jp-ui-font-color1, #212121); background: var(--jp-layout-color2, #eee); border-radius: 2px;
  font-family: var(--jp-code-font-family, monospace); }
.together-nb-panel .tnb-past { border-bottom: 1px solid var(--jp-border-color2, #e0e0e0); padding: 5px 0; line-height: 1.45; }
.together-nb-panel .tnb-past summary { cursor: pointer; }
.together-nb-panel .tnb-past summary small { display: block; color: var(--jp-ui-font-color2, #616161); }

/* Columns side by side */
.together-nb-panel .tnb-compare-head { display: flex; flex-wrap: wrap; gap: 6px 10px; align-items: center; overflow: visible; }
.together-nb-panel .tnb-compare-head .widget-dropdown { flex: 0 1 180px; }
.together-nb-panel .tnb-compare-head .widget-text { flex: 1 1 90px; }
.together-nb-panel .tnb-compare-head .jupyter-button { width: auto; padding: 0 10px; }
.together-nb-panel .tnb-columns-scroll { display: flex; gap: 12px; overflow-x: auto; align-items: stretch; }
.together-nb-panel .tnb-columns-scroll > .tnb-column { flex: 1 1 0; }
.together-nb-panel .tnb-column > .jupyter-button { width: 26px; padding: 0; }

/* The status may need two lines, and the tabs below are not to jump */
@container (max-width: 980px) { .together-nb-panel .tnb-status { min-height: 46px; align-content: flex-start; } }

/* Narrow: what was at the side stands below, in as many columns as have room for the longest name */
@container (max-width: 760px) {
  .together-nb-panel .tnb-parameters { grid-template-columns: repeat(auto-fill, minmax(212px, 1fr)); gap: 6px 12px; }
  .together-nb-panel .tnb-parameter:has(.widget-slider) .widget-text input { flex-basis: 58px; width: 58px; }
  .together-nb-panel .tnb-status { min-height: 46px; }
  .together-nb-panel .tnb-state { flex-basis: 100%; }
}
@container (max-width: 430px) { .together-nb-panel .tnb-status { min-height: 92px; align-content: flex-start; } }

/* Its kernel is gone: one sentence in its own place */
.together-nb-panel.jupyter-widgets-disconnected > * { display: none; }
.together-nb-panel.jupyter-widgets-disconnected::before { content: "LOST"; font: inherit; color: var(--jp-ui-font-color2, #616161); }
"""

# Precedes the panel in its cell, and takes no room. If the page has no such panel, it shows the
# sentence instead of the front end's own message.
_PLACE = """<style class="tnb-place">
.jp-OutputArea-child:has(.tnb-place) { display: none; }
.jp-OutputArea-child:has(.tnb-place) + .jp-OutputArea-child > .jupyter-widgets:not(:has(*)) { font-size: 0; }
.jp-OutputArea-child:has(.tnb-place) + .jp-OutputArea-child > .jupyter-widgets:not(:has(*))::before { content: "LOST";
  font-size: var(--jp-ui-font-size1, 13px); color: var(--jp-ui-font-color2, #616161); }
.jp-OutputArea-child:has(.tnb-place) ~ .jp-OutputArea-child:has(> .jp-RenderedMarkdown:empty) { display: none; }
</style>"""

_STATES = "\n".join(
    f".together-nb-panel .tnb-now-{name} .tnb-is-{name} {{ display: inline; }}"
    for name in (state.name.lower() for state in State)
)
STYLE = SHADE_CSS + TIP_CSS + column_css(".together-nb-panel") + _STYLE.replace("STATES", _STATES).replace("LOST", LOST)
PLACE = _PLACE.replace("LOST", LOST)
