"""The embedded model: what is counted, what is generated, and what each parameter does to it."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from together_nb.errors import InputError
from together_nb.local import ngram
from together_nb.local.ngram import END_OF_TEXT, KAPPA, default_model, train
from together_nb.local.sampler import Chooser
from together_nb.local.stopping import StopFilter
from together_nb.local.vocabulary import END_ID, UNKNOWN, Candidates, Generated, tokenize
from together_nb.values.parameters import SamplingParams

CATS = ["The cat sat. The cat ran. The dog sat.", "The cat sat on the mat."]
CAT, MAT, RAN = " cat", " mat", " ran"
STORY = "Once upon a time"
TURING = "Alan Turing was"


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


def first_tokens(model, prompt, draws=300, **sampling):
    """How often each token came first, over `draws` seeds."""
    return Counter(text(model, prompt, max_tokens=1, seed=seed, **sampling) for seed in range(draws))


@given(st.text())
def test_tokens_joined_are_the_text(sample):
    assert "".join(tokenize(sample)) == sample


def test_tokens_carry_their_leading_space():
    assert tokenize('"Alan Turing," she said.\n\nThen it\'s off') == [
        '"', "Alan", " Turing", ",", '"', " she", " said", ".", "\n\n", "Then", " it's", " off",
    ]  # fmt: skip


def test_a_probability_is_that_of_the_formula(cats):
    words = sum(len(tokenize(document)) + 1 for document in CATS)
    unigram = (3 + KAPPA / len(cats.vocabulary)) / (words + KAPPA)  # " cat" stands three times
    bigram = (3 + KAPPA * unigram) / (5 + KAPPA)  # five times "the"
    trigram = (1 + KAPPA * bigram) / (2 + KAPPA)  # ". The": once a cat, once a dog
    fourgram = (1 + KAPPA * trigram) / (1 + KAPPA)  # "sat. The"
    assert cats.probability(CAT, "zyzzyva the") == cats.probability(CAT, "mat mat the") == pytest.approx(bigram)
    assert cats.probability(CAT, "zyzzyva") == pytest.approx(unigram)
    assert cats.probability(CAT, "sat. The") == pytest.approx(fourgram, rel=1e-12)
    assert cats.probability(CAT, "cat sat. The") == pytest.approx(fourgram, rel=1e-12)  # a fifth word is no context
    for context in ("the cat", "THE CAT", "The cat ", "  The\tcat"):
        assert cats.probability(" sat", context) == cats.probability(" sat", "The cat")
    assert cats.probability(" zyzzyva", "The") == cats.probability(UNKNOWN, "The") > 0


@pytest.mark.parametrize(
    "context", ["", "The", "The cat", STORY, TURING, "zyzzyva", "zyzzyva the", "The cat sat.", "\n"]
)
def test_probabilities_sum_to_one(cats, model, context):
    for each in (cats, model, *(train(CATS, order) for order in (1, 2, 3, 5))):
        assert sum(each.probability(token, context) for token in each.vocabulary) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("number", range(0, 20, 4))
def test_candidates_have_the_exact_probabilities_in_falling_order(model, number):
    tokens = tokenize(ngram.corpus()[number])[: 7 * number]
    found = model.candidates_after(model.context(tokens))
    assert list(found.probabilities) == sorted(found.probabilities, reverse=True)
    exact = [model.probability(model.vocabulary[token], "".join(tokens)) for token in found.ids]
    assert list(found.probabilities) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("prompt", [TURING, "the", STORY])
def test_logprobs_tells_so_many_of_the_likeliest_of_all_tokens_likeliest_first(model, prompt):
    every = sorted((math.log(model.probability(token, prompt)) for token in model.vocabulary[:-1]), reverse=True)
    for count in (None, 0, 5, 20):
        top = pieces(model, prompt, max_tokens=1, logprobs=count)[0].top
        assert [logprob for _, logprob in top] == pytest.approx(every[: count or 0], rel=1e-9)


def test_after_a_word_never_seen_the_whole_vocabulary_may_come_but_the_unknown_word(cats):
    assert sorted(cats.candidates_after(cats.context(["zyzzyva"])).ids) == list(range(len(cats.vocabulary) - 1))
    assert cats.vocabulary[-1] == UNKNOWN
    assert cats.vocabulary[END_ID] == END_OF_TEXT


def test_the_corpus_is_fifty_kilobytes_of_documents_without_their_titles():
    assert ngram.documents_of("# One\n\nFirst.\n\nMore.\n\n# Two\n\nSecond.\n") == ["First.\n\nMore.", "Second."]
    documents = ngram.corpus()
    assert not any(document.startswith("#") for document in documents)
    assert len(documents) > 20
    assert sum(map(len, documents)) > 50_000


def test_the_default_model_is_trained_once_and_is_the_same_in_every_process(model):
    assert default_model() is model
    again = train(ngram.corpus())
    assert again.vocabulary == model.vocabulary
    assert text(again, STORY, seed=9) == text(model, STORY, seed=9)
    assert text(model, "alan turing was", temperature=0, max_tokens=1) == " born"


def test_the_logprob_of_each_token_is_the_models_own(model):
    written = TURING
    for piece in pieces(model, TURING, max_tokens=40, seed=3, temperature=1.7, top_k=30, frequency_penalty=1)[:-1]:
        assert piece.logprob == pytest.approx(math.log(model.probability(piece.text, written)), rel=1e-9)
        assert model.vocabulary[piece.id] == piece.text
        written += piece.text


def test_a_seed_gives_the_same_text_and_another_or_none_another(model):
    texts = [text(model, STORY, seed=seed, max_tokens=60) for seed in (1, 1, 2, -1, None, None)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 5


def test_the_end_has_its_reason(cats, model):
    made = pieces(model, STORY, max_tokens=7, seed=1)
    assert [piece.finish_reason for piece in made] == [None] * 7 + ["length"]
    assert made[-1] == Generated("", finish_reason="length")
    made = pieces(cats, "on the", temperature=0)
    assert ("".join(piece.text for piece in made), made[-1]) == (" mat.", Generated("", finish_reason="eos"))
    assert pieces(train([]), "Hello") == [Generated("", finish_reason="eos")]
    assert len(pieces(model, STORY, temperature=0, logit_bias={str(END_ID): -100})) == 257  # 256, unset


QUESTIONS = ["Who was Alan Turing?", "Why?\n\n", 'He said, "Why?" ', "(Why, [is it “so?”])\n", "zyzzyva ?", "?"]
STATEMENTS = ["", STORY, "on the mat.", "the end. ", "Why? Because", "Who? No.\n\n", '"']
STEERED = [
    {}, {"temperature": 0}, {"temperature": 5}, {"top_k": 1}, {"top_p": 0}, {"min_p": 1}, {"top_k": 2, "top_p": 0.9},
    {"logit_bias": {str(END_ID): 100}}, {"logit_bias": {str(END_ID): 100, "1": 100, "2": -100}, "top_k": 1},
    {"temperature": 0, "logit_bias": {str(END_ID): 1e308}}, {"repetition_penalty": 1e-308}, {"echo": True},
    {"presence_penalty": 2, "frequency_penalty": -1e308, "repetition_penalty": 2}, {"logprobs": 5},
]  # fmt: skip
MODELS = [
    default_model,
    *(partial(train, each, order) for each in (CATS, ["a? B.", "a?"], ["What? "]) for order in (1, 5)),
]


@pytest.mark.parametrize("make", MODELS)
@given(data=st.data())
def test_an_answer_is_never_empty_and_one_to_a_question_begins_a_sentence(make, data):
    model = make()
    prompt, chosen = data.draw(st.sampled_from(QUESTIONS + STATEMENTS)), data.draw(st.sampled_from(STEERED))
    sampling = {"seed": data.draw(st.integers(0, 999)), **chosen}
    known = len(tokenize(prompt)) if "echo" in chosen else 0
    first = pieces(model, prompt, max_tokens=2, **sampling)[known]
    assert first.id != END_ID
    assert first.logprob == pytest.approx(math.log(model.probability(model.vocabulary[first.id], prompt)))
    assert prompt in STATEMENTS or model.vocabulary[first.id].strip()[0].isupper()


def test_the_first_token_has_the_models_odds_among_those_that_may_come():
    follow = train(["Why? Yes.", "Why? Yes.", "Why? No.", "Why? so", "Why?"], order=3)
    yes, no = (follow.probability(token, "Why?") for token in (" Yes", " No"))
    counts = first_tokens(follow, "Why?", draws=3000, temperature=1, top_p=0.9)
    assert counts[" Yes"] / counts[" No"] == pytest.approx(yes / no, rel=0.2)
    bias = {str(follow.token_id(" No")): 100, str(follow.token_id(" so")): 1000}
    assert set(first_tokens(follow, "Why?", logit_bias=bias)) == {" No"}


def test_where_no_word_has_a_capital_an_answer_to_a_question_is_any_word():
    small = train(["a b? c", "a?"])
    for chosen in STEERED:
        assert pieces(small, "b?", seed=1, **{**chosen, "echo": False})[0].id not in (END_ID, None)


def test_only_the_first_token_may_not_be_the_end(cats):
    made = pieces(cats, "The cat", seed=1, logit_bias={str(END_ID): 100})
    assert [piece.finish_reason for piece in made] == [None, "eos"]


def test_of_equals_at_temperature_zero_the_commoner_token_is_taken():
    tied = train(["a x", "a y"])
    assert tied.probability(" x", "a") == tied.probability(" y", "a")
    assert text(tied, "a", temperature=0, max_tokens=1) == " x"


# After "The" the odds are: cat 0.88, dog and mat 0.05, "." 0.006; with a bias of 5, mat is the likeliest.
LIKELY_MAT = {"logit_bias": {"7": 5}}


@pytest.mark.parametrize(
    ("sampling", "possible"),
    [
        ({"temperature": 0}, {CAT}), ({"temperature": 5, "top_k": 1}, {CAT}),
        ({"temperature": 5, "top_k": 3}, {CAT, " dog", MAT}), ({"top_p": 0}, {CAT}), ({"top_p": 0.88}, {CAT}),
        ({"top_p": 0.9}, {CAT, " dog"}), ({"top_p": 0.97}, {CAT, " dog", MAT}), ({"min_p": 1}, {CAT}),
        ({"top_k": 2, "top_p": 0.93}, {CAT}),  # a share of what top_k left
        ({"min_p": 0.055}, {CAT}), ({"min_p": 0.051}, {CAT, " dog", MAT}), ({"logit_bias": {"7": 100}}, {MAT}),
        ({"temperature": 5, "top_k": 1, **LIKELY_MAT}, {MAT}), ({"top_p": 0.5, **LIKELY_MAT}, {MAT}),
        ({"min_p": 0.9, **LIKELY_MAT}, {MAT}), ({"top_k": 2, "logit_bias": {"2": -100}}, {" dog", MAT}),
    ],
)  # fmt: skip
def test_the_tokens_that_may_come(cats, sampling, possible):
    assert (cats.vocabulary[2], cats.vocabulary[7]) == (CAT, MAT)
    assert set(first_tokens(cats, "The", **{"temperature": 1, **sampling})) == possible


@pytest.mark.parametrize("off", [
    {"top_k": 0}, {"top_k": -1}, {"top_p": 1}, {"min_p": 0}, {"repetition_penalty": 1},
    {"logit_bias": {str(token): 0 for token in range(9)}},
])  # fmt: skip
def test_what_is_off_changes_nothing(cats, off):
    assert first_tokens(cats, "The cat and", temperature=5, **off) == first_tokens(cats, "The cat and", temperature=5)


@pytest.mark.parametrize(
    ("prompt", "one", "other", "sampling", "odds"),
    [
        ("The cat", " sat", RAN, {"temperature": 1}, lambda p, q: p / q),
        ("The cat", " sat", RAN, {}, lambda p, q: (p / q) ** (1 / 0.8)),
        ("The cat", " sat", RAN, {"temperature": 0.5}, lambda p, q: (p / q) ** 2),
        ("The cat", " sat", RAN, {"temperature": 5}, lambda p, q: (p / q) ** 0.2),
        ("The cat", " sat", RAN, {"temperature": 1, "logit_bias": {"ran": 1}}, lambda p, q: p / q / math.e),
        ("The cat", " sat", RAN, {"temperature": 2, "logit_bias": {"ran": 1}}, lambda p, q: (p / q / math.e) ** 0.5),
        ("The cat sat. The", CAT, " dog", {"temperature": 1, "repetition_penalty": 2}, lambda p, q: p**2 / q),
    ],
)
def test_the_odds_of_two_tokens(cats, prompt, one, other, sampling, odds):
    bias = {str(cats.token_id(RAN)): value for value in sampling.get("logit_bias", {}).values()}
    counts = first_tokens(cats, prompt, draws=3000, **{**sampling, "logit_bias": bias})
    expected = odds(cats.probability(one, prompt), cats.probability(other, prompt))
    assert counts[one] / counts[other] == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("name", ["presence_penalty", "frequency_penalty"])
def test_a_penalty_leaves_the_prompts_tokens_alone(cats, name):
    assert first_tokens(cats, "The cat sat. The", **{name: 2}) == first_tokens(cats, "The cat sat. The")


@pytest.mark.parametrize(("name", "subtracted"), [("presence_penalty", 2.0), ("frequency_penalty", 6.0)])
def test_presence_penalty_is_subtracted_once_and_frequency_penalty_for_each_time(name, subtracted):
    flat = train(["a b a b"], order=1)
    found = flat.candidates_after(flat.context(()))
    chooser = Chooser(SamplingParams(**{name: 2, "temperature": 0}), [], {})
    for _ in range(3):
        assert chooser.choose(Candidates(found.ids[:1], [1.0])) == 0
    logits = list(map(math.log, found.probabilities))
    assert chooser._logits(found)[:2] == pytest.approx([logits[0] - subtracted, logits[1]])
    assert chooser.choose(found) == 1


@pytest.mark.parametrize(
    ("name", "more", "less"),
    [("presence_penalty", -1, 2), ("frequency_penalty", -1, 2), ("repetition_penalty", 0.3, 10)],
)
def test_a_penalty_makes_texts_repeat_themselves_less(model, name, more, less):
    def repeated(**sampling):
        sampling |= {"max_tokens": 50, "logit_bias": {str(END_ID): -100}}
        texts = ([piece.id for piece in pieces(model, "Once", seed=seed, **sampling)[:-1]] for seed in range(6))
        return sum(len(ids) - len(set(ids)) for ids in texts)

    assert repeated(**{name: less}) < repeated() < repeated(**{name: more})


def test_logit_bias_reaches_a_token_that_never_followed(model):
    token = len(model.vocabulary) - 2
    assert token not in model.candidates_after(model.context(tokenize(TURING))).ids
    made = pieces(model, TURING, max_tokens=1, logit_bias={str(token): 100})
    assert made[0].id == token
    assert made[0].logprob == pytest.approx(math.log(model.probability(made[0].text, TURING)))


@pytest.mark.parametrize(
    "bias",
    [{"x": 1}, {"-1": 1}, {"1e9": 1}, {"99999999": 1}, {"1": "2"}, {"1": math.inf}, {"1": None}, {"LAST": 1}],
)
def test_a_logit_bias_that_fits_no_token_is_refused_at_the_call(cats, bias):
    bias = {key.replace("LAST", str(len(cats.vocabulary) - 1)): value for key, value in bias.items()}
    with pytest.raises(InputError, match="logit_bias"):
        cats.generate("The", SamplingParams(logit_bias=bias))


@pytest.mark.parametrize(
    "extreme",
    [
        *({"temperature": each, "repetition_penalty": by} for each in (1e-320, 1e-9, 1e9, 1e308) for by in (1, 2)),
        {"logit_bias": {"1": 1e308, "2": -1e308}, "presence_penalty": 1e308},
        {"repetition_penalty": 1e308}, {"repetition_penalty": 1e-308},
        {"presence_penalty": 1e308, "min_p": 1, "top_k": 5},
        {"frequency_penalty": 1e308, "temperature": 1e-9, "top_p": 0.5},
    ],
)  # fmt: skip
def test_extreme_values_still_generate(cats, extreme):
    assert pieces(cats, "The cat", max_tokens=20, seed=1, **extreme)[-1].finish_reason


def test_a_reward_without_bound_repeats_one_token_for_ever():
    # Rewards of more than a float holds must not make the odds "not a number".
    flat = train(["a b c d"], order=1)
    ids = [piece.id for piece in pieces(flat, "x", max_tokens=30, seed=1, frequency_penalty=-1e308)[:-1]]
    assert ids == ids[:1] * 30


def test_an_echo_is_the_prompt_with_its_own_logprobs_but_for_its_first_token(model):
    prompt = "Alan Turing was a zyzzyva and "
    tokens = tokenize(prompt)
    made = pieces(model, prompt, max_tokens=5, echo=True, logprobs=2, seed=1)
    assert [piece.text for piece in made[: len(tokens)]] == tokens
    assert made[len(tokens) :] == pieces(model, prompt, max_tokens=5, logprobs=2, seed=1)
    assert made[0].logprob is None
    for number in range(1, len(tokens)):
        exact = math.log(model.probability(tokens[number], "".join(tokens[:number])))
        assert made[number].logprob == pytest.approx(exact)
        assert len(made[number].top) == 2


def test_a_stop_text_over_several_tokens_ends_the_text_before_it_and_what_only_begins_one_is_kept(cats, model):
    plain = text(model, STORY, seed=5, max_tokens=120)
    made = pieces(model, STORY, seed=5, max_tokens=120, stop=[plain[41:60]])
    assert "".join(piece.text for piece in made) == plain[: plain.index(plain[41:60])]
    assert made[-1].finish_reason == "stop"
    assert text(cats, "The cat", temperature=0, max_tokens=1, stop=["The"], echo=True) == "The cat sat"  # in the prompt
    whole = pieces(model, STORY, seed=5, max_tokens=60)
    assert pieces(model, STORY, seed=5, max_tokens=60, stop=[f"{whole[-2].text}never"]) == whole  # held back at the end


LETTERS = st.text("ab", min_size=1, max_size=4)


@given(st.lists(LETTERS, max_size=12), st.lists(LETTERS, min_size=1, max_size=3))
@settings(max_examples=200)
def test_a_stop_text_is_found_wherever_the_tokens_part_and_no_other_token_is_held_back(tokens, stops):
    stop_filter, out, written = StopFilter(stops), [], ""
    for number, token in enumerate(tokens):
        out += stop_filter.feed(Generated(token, number, -1.0))
        written += token
        if stop_filter.met:
            break
        unsure = max(
            n for n in range(len(written) + 1) if any(stop[:n] == written[len(written) - n :] for stop in stops)
        )
        # All whole tokens before the unsure part are out, and nothing of it is.
        borders = [len("".join(tokens[:n])) for n in range(number + 2)]
        assert sum(len(piece.text) for piece in out) == max(n for n in borders if n <= len(written) - unsure)
    else:
        out += stop_filter.flush()
    # As if it came letter by letter: the first end of a stop text, and the longest ending there.
    whole = "".join(tokens)
    ends = [end for end in range(1, len(whole) + 1) if whole[:end].endswith(tuple(stops))]
    cut = ends[0] - max(len(stop) for stop in stops if whole[: ends[0]].endswith(stop)) if ends else len(whole)
    assert "".join(piece.text for piece in out) == whole[:cut]
    assert stop_filter.met == bool(ends)
    assert [(piece.id, piece.logprob) for piece in out] == [(number, -1.0) for number in range(len(out))]
