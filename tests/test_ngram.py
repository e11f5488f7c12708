"""The embedded model: what is counted, what is generated, and what each parameter does to it."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from together_nb.errors import InputError
from together_nb.local import ngram
from together_nb.local.generation import Chooser, Generated
from together_nb.local.ngram import END_ID, END_OF_TEXT, UNKNOWN, Candidates, default_model, tokenize, train
from together_nb.local.stopping import StopFilter
from together_nb.params import PARAMETERS, SamplingParams

CATS = ["The cat sat. The cat ran. The dog sat.", "The cat sat on the mat."]
KAPPA = ngram.KAPPA


@pytest.fixture(scope="module")
def cats():
    return train(CATS, order=4)


@pytest.fixture(scope="module")
def model():
    return default_model()


def pieces(model, prompt, **sampling):
    return list(model.generate(prompt, SamplingParams(**sampling)))


def text(model, prompt, **sampling):
    return "".join(piece.text for piece in pieces(model, prompt, **sampling))


def first_tokens(model, prompt, draws=3000, **sampling):
    """How often each token came first, over `draws` seeds."""
    return Counter(text(model, prompt, max_tokens=1, seed=seed, **sampling) for seed in range(draws))


def share(counts, token):
    return counts[token] / counts.total()


# Tokens


@given(st.text())
@settings(max_examples=500)
def test_tokens_joined_are_the_text(sample):
    assert "".join(tokenize(sample)) == sample


def test_tokens_carry_their_leading_space():
    assert tokenize('"Alan Turing," she said.\n\nThen it\'s off') == [
        '"', "Alan", " Turing", ",", '"', " she", " said", ".", "\n\n", "Then", " it's", " off",
    ]  # fmt: skip


# Probabilities


def test_a_probability_is_that_of_the_formula(cats):
    size = len(cats.vocabulary)
    words = sum(len(tokenize(document)) + 1 for document in CATS)
    unigram = (3 + KAPPA / size) / (words + KAPPA)  # " cat" stands three times
    bigram = (3 + KAPPA * unigram) / (5 + KAPPA)  # five times "the"
    trigram = (1 + KAPPA * bigram) / (2 + KAPPA)  # ". The": once a cat, once a dog
    fourgram = (1 + KAPPA * trigram) / (1 + KAPPA)  # "sat. The"
    assert cats.probability(" cat", "sat. The") == pytest.approx(fourgram, rel=1e-12)
    assert cats.probability(" cat", "cat sat. The") == pytest.approx(fourgram, rel=1e-12)  # a fifth word is no context


@pytest.mark.parametrize("context", ["", "The", "The cat", "Once upon", "zyzzyva", "zyzzyva the", "The cat sat.", "\n"])
def test_probabilities_sum_to_one(cats, context):
    assert sum(cats.probability(token, context) for token in cats.vocabulary) == pytest.approx(1, abs=1e-12)


def test_probabilities_of_the_real_model_sum_to_one(model):
    for context in ("", "Alan Turing was", "Once upon a", "no such zyzzyva"):
        assert sum(model.probability(token, context) for token in model.vocabulary) == pytest.approx(1, abs=1e-9)


def test_a_context_never_seen_backs_off(cats):
    assert cats.probability(" cat", "zyzzyva the") == cats.probability(" cat", "mat mat the")
    assert cats.probability(" cat", "zyzzyva the") != cats.probability(" cat", "zyzzyva")


def test_a_word_never_seen_has_the_probability_of_unknown(cats):
    assert cats.probability(" zyzzyva", "The") == cats.probability(UNKNOWN, "The") > 0


@pytest.mark.parametrize("context", ["the cat", "THE CAT", "The cat ", "  The\tcat"])
def test_contexts_match_whatever_their_case_and_spaces(cats, context):
    assert cats.probability(" sat", context) == cats.probability(" sat", "The cat")


def test_candidates_have_the_exact_probabilities_in_falling_order(model):
    rng = random.Random(1)
    for document in rng.sample(ngram.corpus(), 5):
        tokens = tokenize(document)
        cut = rng.randrange(len(tokens))
        context = model.context(tokens[:cut])
        found = model.candidates_after(context)
        assert list(found.probabilities) == sorted(found.probabilities, reverse=True)
        for token, probability in zip(found.ids, found.probabilities, strict=True):
            exact = model.probability(model.vocabulary[token], "".join(tokens[:cut]))
            assert probability == pytest.approx(exact, rel=1e-9)


def test_no_token_outside_the_candidates_is_likelier_than_the_twenty_told(model):
    for prompt in ("Alan Turing was", "the", "Once upon a time"):
        told = next(model.generate(prompt, SamplingParams(logprobs=20, max_tokens=1))).top
        every = sorted((math.log(model.probability(token, prompt)) for token in model.vocabulary[:-1]), reverse=True)
        assert [logprob for _, logprob in told] == pytest.approx(every[:20], rel=1e-9)


def test_after_a_word_never_seen_the_whole_vocabulary_may_come(cats):
    found = cats.candidates_after(cats.context(["zyzzyva"]))
    assert len(found.ids) == len(cats.vocabulary) - 1  # all but the unknown word


def test_titles_are_not_trained_on():
    assert ngram.documents_of("# One\n\nFirst.\n\nMore.\n\n# Two\n\nSecond.\n") == ["First.\n\nMore.", "Second."]
    assert not any(document.startswith("#") for document in ngram.corpus())


def test_the_corpus_is_fifty_kilobytes_of_documents():
    documents = ngram.corpus()
    assert len(documents) > 20
    assert sum(map(len, documents)) > 50_000


def test_the_default_model_is_trained_once():
    assert default_model() is default_model()


def test_an_empty_corpus_makes_a_model_that_ends_at_once():
    assert pieces(train([]), "Hello") == [Generated("", finish_reason="eos")]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_every_order_generates(order):
    small = train(CATS, order=order)
    assert text(small, "The", seed=1, max_tokens=5)
    assert sum(small.probability(token, "The cat") for token in small.vocabulary) == pytest.approx(1)


# Generation


def test_the_logprob_of_each_token_is_the_models_own(model):
    prompt = "Alan Turing was"
    written = prompt
    for piece in pieces(model, prompt, max_tokens=40, seed=3, temperature=1.7, top_k=30, frequency_penalty=1)[:-1]:
        assert piece.logprob == pytest.approx(math.log(model.probability(piece.text, written)), rel=1e-9)
        assert model.vocabulary[piece.id] == piece.text
        written += piece.text


def test_logprobs_tells_so_many_alternatives_likeliest_first(model):
    for piece in pieces(model, "Once upon a", max_tokens=10, seed=1, logprobs=5)[:-1]:
        logprobs = [logprob for _, logprob in piece.top]
        assert len(logprobs) == 5
        assert logprobs == sorted(logprobs, reverse=True)
    assert pieces(model, "Once upon a", max_tokens=1, logprobs=0)[0].top == ()
    assert pieces(model, "Once upon a", max_tokens=1)[0].top == ()


def test_a_seed_gives_the_same_text_and_another_seed_another(model):
    texts = [text(model, "Once upon a time", seed=seed, max_tokens=60) for seed in (1, 1, 2, -1)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


def test_without_a_seed_texts_differ(model):
    assert len({text(model, "Once upon a time", max_tokens=60) for _ in range(5)}) > 1


def test_max_tokens_ends_the_text_by_length(model):
    made = pieces(model, "Once upon a time", max_tokens=7, seed=1)
    assert len(made) == 8
    assert made[-1] == Generated("", finish_reason="length")
    assert all(piece.finish_reason is None for piece in made[:-1])


def test_max_tokens_unset_is_256(model):
    made = pieces(model, "Once upon a time", temperature=0, logit_bias={str(END_ID): -100})
    assert len(made) == 257


def test_a_text_that_the_model_ends_says_eos(cats):
    made = pieces(cats, "on the mat.", temperature=0)
    assert made == [Generated("", finish_reason="eos")]


def test_temperature_zero_takes_the_likeliest_every_time(cats):
    assert first_tokens(cats, "The", draws=20, temperature=0) == {" cat": 20}


def test_ties_at_temperature_zero_go_to_the_commoner_token():
    tied = train(["a x b y", "a y"])  # after "a" once each
    assert tied.probability(" x", "a") < tied.probability(" y", "a")
    really = train(["a x", "a y"])
    assert really.probability(" x", "a") == really.probability(" y", "a")
    assert text(really, "a", temperature=0, max_tokens=1) == " x"


def test_temperature_one_draws_by_the_models_odds(cats):
    counts = first_tokens(cats, "The cat", temperature=1)
    for token in (" sat", " ran"):
        assert share(counts, token) == pytest.approx(cats.probability(token, "The cat"), abs=0.03)


def test_temperature_sharpens_below_one_and_flattens_above(cats):
    cold, warm, hot = (share(first_tokens(cats, "The cat", temperature=t), " sat") for t in (0.3, 1, 5))
    assert cold > warm + 0.02
    assert warm > hot + 0.2
    odds = cats.probability(" sat", "The cat") / cats.probability(" ran", "The cat")
    counts = first_tokens(cats, "The cat", temperature=0.5)
    assert counts[" sat"] / counts[" ran"] == pytest.approx(odds**2, rel=0.2)


@pytest.mark.parametrize("temperature", [1e-320, 1e-9, 1e9, 1e308])
def test_extreme_temperatures_still_draw(cats, temperature):
    for penalty in (1, 2):
        assert pieces(cats, "The", temperature=temperature, max_tokens=3, seed=1, repetition_penalty=penalty)


def test_top_k_draws_among_so_many(cats):
    assert set(first_tokens(cats, "The", temperature=5, top_k=1)) == {" cat"}
    assert set(first_tokens(cats, "The", temperature=5, top_k=3)) == {" cat", " dog", " mat"}


@pytest.mark.parametrize("top_k", [0, -1])
def test_top_k_of_zero_or_less_is_off(cats, top_k):
    assert first_tokens(cats, "The", draws=200, temperature=5, top_k=top_k) == first_tokens(
        cats, "The", draws=200, temperature=5
    )


def test_top_p_draws_among_the_likeliest_that_have_that_share(cats):
    ranked = sorted(cats.vocabulary, key=lambda token: -cats.probability(token, "The"))[:3]
    first, second, third = (cats.probability(token, "The") for token in ranked)
    assert set(first_tokens(cats, "The", temperature=1, top_p=0)) == set(ranked[:1])
    assert set(first_tokens(cats, "The", temperature=1, top_p=first - 0.01)) == set(ranked[:1])
    assert set(first_tokens(cats, "The", temperature=1, top_p=first + 0.01)) == set(ranked[:2])
    assert set(first_tokens(cats, "The", temperature=1, top_p=first + second + third - 0.01)) == set(ranked)
    assert len(first_tokens(cats, "The", temperature=1, top_p=1)) > 3


def test_top_p_is_a_share_of_what_top_k_left(cats):
    # Of the three, " cat" has about 0.6: within 0.65 of all tokens it is not alone.
    counts = first_tokens(cats, "The", temperature=1, top_k=2, top_p=0.7)
    assert set(counts) == {" cat"}


def test_min_p_drops_what_is_unlikely_beside_the_likeliest(cats):
    relative = cats.probability(" dog", "The") / cats.probability(" cat", "The")
    assert " dog" in first_tokens(cats, "The", temperature=1, min_p=relative - 0.01)
    assert set(first_tokens(cats, "The", temperature=1, min_p=relative + 0.01)) == {" cat"}
    assert set(first_tokens(cats, "The", temperature=1, min_p=1)) == {" cat"}


def test_repetition_penalty_makes_tokens_of_the_prompt_rarer(cats):
    prompt = "A cat and the"
    plain = first_tokens(cats, prompt, temperature=1)
    penalized = first_tokens(cats, prompt, temperature=1, repetition_penalty=3)
    assert share(penalized, " cat") < share(plain, " cat") - 0.2
    favoured = first_tokens(cats, prompt, temperature=1, repetition_penalty=0.1)
    assert share(favoured, " the") > share(plain, " the") + 0.2
    assert first_tokens(cats, prompt, draws=200, repetition_penalty=1) == first_tokens(cats, prompt, draws=200)


def test_repetition_penalty_multiplies_log_probabilities(cats):
    prompt = "The cat sat. The"
    counts = first_tokens(cats, prompt, temperature=1, repetition_penalty=2)
    odds = cats.probability(" cat", prompt) ** 2 / cats.probability(" dog", prompt)
    assert counts[" cat"] / counts[" dog"] == pytest.approx(odds, rel=0.2)


@pytest.mark.parametrize("name", ["presence_penalty", "frequency_penalty"])
def test_a_penalty_leaves_the_prompts_tokens_alone(cats, name):
    prompt = "The cat sat. The"
    assert first_tokens(cats, prompt, draws=300, **{name: 2}) == first_tokens(cats, prompt, draws=300)


def test_presence_penalty_is_subtracted_once_and_frequency_penalty_for_each_time():
    flat = train(["a b a b"], order=1)
    found = flat.candidates_after(flat.context(()))
    for name, expected in (("presence_penalty", 2.0), ("frequency_penalty", 6.0)):
        chooser = Chooser(SamplingParams(**{name: 2, "temperature": 0}), [], {})
        for _ in range(3):
            assert chooser.choose(Candidates(found.ids[:1], [1.0])) == 0
        assert chooser._logits(found)[0] == pytest.approx(math.log(found.probabilities[0]) - expected)
        assert chooser._logits(found)[1] == math.log(found.probabilities[1])


@pytest.mark.parametrize("name", ["presence_penalty", "frequency_penalty", "repetition_penalty"])
def test_a_penalty_makes_texts_repeat_themselves_less(model, name):
    def repeated(**sampling):
        sampling |= {"max_tokens": 100, "logit_bias": {str(END_ID): -100}}
        texts = ([p.id for p in pieces(model, "Once", seed=seed, **sampling)[:-1]] for seed in range(20))
        return sum(len(ids) - len(set(ids)) for ids in texts)

    more, less = (0.3, 10) if name == "repetition_penalty" else (-1, 2)
    assert repeated(**{name: less}) < repeated()
    assert repeated(**{name: more}) > repeated()


def test_a_frequency_penalty_leads_greedy_text_out_of_its_loop(model):
    greedy = {"temperature": 0, "max_tokens": 1000, "logit_bias": {str(END_ID): -1000}}
    looping = {piece.id for piece in pieces(model, "Tell me a story\n\n", **greedy)}
    free = {piece.id for piece in pieces(model, "Tell me a story\n\n", **greedy, frequency_penalty=1)}
    assert len(free) > 2 * len(looping)


def test_logit_bias_bans_and_forces_a_token(cats):
    cat, mat = cats.token_id(" cat"), cats.token_id(" mat")
    assert " cat" not in first_tokens(cats, "The", draws=300, logit_bias={str(cat): -100})
    assert set(first_tokens(cats, "The cat", draws=300, logit_bias={str(mat): 100})) == {" mat"}


def test_logit_bias_adds_to_the_log_probability(cats):
    counts = first_tokens(cats, "The cat", temperature=1, logit_bias={str(cats.token_id(" ran")): 1})
    odds = math.e * cats.probability(" ran", "The cat") / cats.probability(" sat", "The cat")
    assert counts[" ran"] / counts[" sat"] == pytest.approx(odds, rel=0.2)


def test_top_k_and_top_p_go_by_the_odds_after_penalties_and_biases(cats):
    mat = {str(cats.token_id(" mat")): 5}
    assert set(first_tokens(cats, "The", draws=200, temperature=5, top_k=1, logit_bias=mat)) == {" mat"}
    assert set(first_tokens(cats, "The", draws=200, temperature=1, top_p=0.5, logit_bias=mat)) == {" mat"}
    assert set(first_tokens(cats, "The", draws=200, temperature=1, min_p=0.9, logit_bias=mat)) == {" mat"}


def test_temperature_divides_after_the_bias_is_added(cats):
    counts = first_tokens(cats, "The cat", temperature=2, logit_bias={str(cats.token_id(" ran")): 1})
    odds = math.e * cats.probability(" ran", "The cat") / cats.probability(" sat", "The cat")
    assert counts[" ran"] / counts[" sat"] == pytest.approx(math.sqrt(odds), rel=0.2)


def test_logit_bias_reaches_a_token_that_never_followed(model):
    token = model.token_id(" zebra") if " zebra" in model.vocabulary else len(model.vocabulary) - 2
    assert token not in model.candidates_after(model.context(tokenize("Alan Turing was"))).ids
    made = pieces(model, "Alan Turing was", max_tokens=1, logit_bias={str(token): 100})
    assert made[0].id == token
    assert made[0].logprob == pytest.approx(math.log(model.probability(made[0].text, "Alan Turing was")))


@pytest.mark.parametrize(
    "bias", [{"x": 1}, {"-1": 1}, {"1e9": 1}, {"99999999": 1}, {"1": "2"}, {"1": math.inf}, {"1": None}]
)
def test_a_logit_bias_that_fits_no_token_is_refused_at_the_call(cats, bias):
    with pytest.raises(InputError, match="logit_bias"):
        cats.generate("The", SamplingParams(logit_bias=bias))


def test_the_unknown_word_is_never_generated(cats):
    last = len(cats.vocabulary) - 1
    assert cats.vocabulary[last] == UNKNOWN
    with pytest.raises(InputError):
        cats.generate("The", SamplingParams(logit_bias={str(last): 100}))
    assert UNKNOWN not in first_tokens(cats, "zyzzyva", temperature=100)


@pytest.mark.parametrize(
    "extreme",
    [
        {"logit_bias": {"1": 1e308, "2": -1e308}, "presence_penalty": 1e308},
        {"repetition_penalty": 1e308},
        {"repetition_penalty": 1e-308},
        {"frequency_penalty": -1e308},
        {"frequency_penalty": 1e308, "temperature": 1e-9, "top_p": 0.5},
        {"presence_penalty": 1e308, "min_p": 1, "top_k": 5},
    ],
)
def test_extreme_penalties_still_generate(cats, extreme):
    assert pieces(cats, "The cat", max_tokens=20, seed=1, **extreme)[-1].finish_reason


def test_a_reward_without_bound_repeats_one_token_for_ever():
    # Rewards of more than a float holds must not make the odds "not a number".
    flat = train(["a b c d"], order=1)
    ids = [piece.id for piece in pieces(flat, "x", max_tokens=30, seed=1, frequency_penalty=-1e308)[:-1]]
    assert len(ids) == 30
    assert len(set(ids)) == 1


def test_echo_brings_the_prompt_first(model):
    prompt = "Alan Turing was "
    plain = text(model, prompt, seed=1, max_tokens=5)
    assert text(model, prompt, seed=1, max_tokens=5, echo=True) == prompt + plain


def test_an_echo_has_the_prompts_own_logprobs_but_for_its_first_token(model):
    prompt = "Alan Turing was a zyzzyva and"
    tokens = tokenize(prompt)
    made = pieces(model, prompt, max_tokens=1, echo=True, logprobs=2, seed=1)[: len(tokens)]
    assert [piece.text for piece in made] == tokens
    assert made[0].logprob is None
    for number in range(1, len(tokens)):
        exact = math.log(model.probability(tokens[number], "".join(tokens[:number])))
        assert made[number].logprob == pytest.approx(exact)
        assert len(made[number].top) == 2


def test_every_parameter_has_a_test_of_what_it_does():
    # reasoning_effort is refused, n is the server's: both are in test_local_server.
    source = Path(__file__).read_text(encoding="utf-8")
    for name in set(PARAMETERS) - {"reasoning_effort", "n"}:
        assert f"{name}=" in source or f'"{name}"' in source


# Stop texts


def test_a_stop_text_over_several_tokens_ends_the_text_before_it(model):
    whole = text(model, "Once upon a time", seed=5, max_tokens=120)
    stop = whole[41:60]
    made = pieces(model, "Once upon a time", seed=5, max_tokens=120, stop=[stop])
    assert "".join(piece.text for piece in made) == whole[: whole.index(stop)]
    assert made[-1].finish_reason == "stop"


def test_a_stop_text_in_the_prompt_stops_nothing(cats):
    assert text(cats, "The cat", temperature=0, max_tokens=1, stop=["The"], echo=True) == "The cat sat"


def test_tokens_held_back_for_a_stop_text_keep_their_logprobs(model):
    plain = pieces(model, "Once upon a time", seed=5, max_tokens=60)
    nearly = "".join(piece.text for piece in plain[3:6]) + "never"
    held = pieces(model, "Once upon a time", seed=5, max_tokens=60, stop=[nearly])
    assert held == plain


def test_a_stop_text_begun_and_cut_by_length_is_given_out(model):
    plain = pieces(model, "Once upon a time", seed=5, max_tokens=6)
    assert pieces(model, "Once upon a time", seed=5, max_tokens=6, stop=[plain[5].text + "!never"]) == plain


def stopped(tokens, stops):
    """The tokens that a filter lets through, and whether it met a stop text."""
    stop_filter = StopFilter(stops)
    out = []
    for number, token in enumerate(tokens):
        out += stop_filter.feed(Generated(token, number, -1.0))
        if stop_filter.met:
            return out, True
    return out + list(stop_filter.flush()), False


letters = st.text("ab", min_size=1, max_size=4)


@given(st.lists(letters, max_size=12), st.lists(letters, min_size=1, max_size=3))
@settings(max_examples=500)
def test_a_stop_text_is_found_wherever_the_tokens_part(tokens, stops):
    written = "".join(tokens)
    # As if it came letter by letter: the first end of a stop text, and the longest ending there.
    ends = [end for end in range(1, len(written) + 1) if any(written[:end].endswith(stop) for stop in stops)]
    expected = written
    if ends:
        expected = written[: ends[0] - max(len(stop) for stop in stops if written[: ends[0]].endswith(stop))]
    out, met = stopped(tokens, stops)
    assert "".join(piece.text for piece in out) == expected
    assert met == bool(ends)
    assert [piece.id for piece in out] == list(range(len(out)))


@given(st.lists(letters, max_size=12), st.lists(letters, min_size=1, max_size=3))
def test_no_token_is_held_back_that_cannot_belong_to_a_stop_text(tokens, stops):
    stop_filter = StopFilter(stops)
    given_out = ""
    for number, token in enumerate(tokens):
        given_out += "".join(piece.text for piece in stop_filter.feed(Generated(token, number)))
        if stop_filter.met:
            return
        written = "".join(tokens[: number + 1])
        ends = {n: written[len(written) - n :] for n in range(len(written) + 1)}
        unsure = max(n for n, end in ends.items() if any(stop.startswith(end) and stop != end for stop in stops))
        sure = len(written) - unsure
        # All whole tokens before the unsure part are out, and nothing of it is.
        borders = [len("".join(tokens[:n])) for n in range(number + 2)]
        assert len(given_out) == max(border for border in borders if border <= sure)


# What makes it worth reading


def test_the_model_knows_its_people(model):
    assert text(model, "alan turing was", temperature=0, max_tokens=1) == " born"


def test_greedy_text_is_the_same_in_every_process(model):
    again = train(ngram.corpus())
    assert again.vocabulary == model.vocabulary
    assert text(again, "Once upon a time", seed=9) == text(model, "Once upon a time", seed=9)


def test_the_end_of_text_is_the_first_token(model):
    assert model.vocabulary[END_ID] == END_OF_TEXT
