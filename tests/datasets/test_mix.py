"""A mix is a pure function: its order, its shares and its subsets are what the docstring says."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets import Domain, DomainRows, Mix, Source, nested_rows, subset_count, write_pack
from datasets.mix import rarest

REAL, SYNTHETIC = "a" * 64, "b" * 64


def mix(batch_size=8, share=0.5, real=10, synthetic=14, seed=3):
    domains = [
        DomainRows(Domain.REAL, REAL, np.arange(real) * 2),
        DomainRows(Domain.SYNTHETIC, SYNTHETIC, np.arange(synthetic) + 100),
    ]
    return Mix(batch_size, seed, domains, share)


def naive_stream(single: Mix, count: int) -> list[tuple[int, int]]:
    """(row, seed) of the first draws of a domain, from a mix of that domain alone with batches of one."""
    draws = [single.batch(step) for step in range(count)]
    return [(int(d.row[0]), int(d.seed[0])) for d in draws]


@settings(max_examples=30, deadline=None)
@given(
    batch_size=st.integers(2, 20),
    numerator=st.integers(1, 19),
    real=st.integers(1, 9),
    synthetic=st.integers(1, 30),
    seed=st.integers(0, 2**63),
)
def test_two_streams_are_dealt_into_batches_as_a_naive_dealer_does(batch_size, numerator, real, synthetic, seed):
    share = Fraction(numerator, 20)
    both = mix(batch_size, float(share), real, synthetic, seed)
    streams = [iter(naive_stream(Mix(1, seed, [domain], None), 12 * batch_size + 1)) for domain in both.domains]
    owed = Fraction(0)
    for step in range(12):
        owed += batch_size * share
        take = floor(owed)
        owed -= take
        expected = [(0, *next(streams[0])) for _ in range(batch_size - take)]
        expected += [(1, *next(streams[1])) for _ in range(take)]
        draws = both.batch(step)
        assert list(zip(draws.domain.tolist(), draws.row.tolist(), draws.seed.tolist(), strict=True)) == expected
        assert (draws.domain.dtype, draws.row.dtype, draws.seed.dtype) == (np.int64, np.int64, np.uint32)


@pytest.mark.parametrize("batch_size", [3, 7, 32])
@pytest.mark.parametrize("share", [0.5, 0.34, 0.6, 1 / 3, 1234 / 3456])
def test_the_share_is_exact_over_ten_thousand_steps(batch_size, share):
    exact = Fraction(share).limit_denominator(10_000)
    both = mix(batch_size, share)
    total = 0
    for step in range(10_000):
        before = floor(step * batch_size * exact)
        total += floor((step + 1) * batch_size * exact) - before
        if step % 97 == 0 or step > 9_990:
            assert int(both.batch(step).domain.sum()) == floor((step + 1) * batch_size * exact) - before
    assert total == floor(10_000 * batch_size * exact)


def test_ten_thousand_steps_really_drawn_hold_the_share():
    both = mix(3, 0.4, real=500, synthetic=500)
    assert sum(int(both.batch(step).domain.sum()) for step in range(10_000)) == 12_000


@pytest.mark.parametrize(("real", "synthetic"), [(8, 2000), (2000, 8), (1, 999)])
def test_a_share_of_less_than_one_sample_a_batch_is_exact(real, synthetic):
    """The rare domain comes evenly and in its own order, and batches without it are whole."""
    rare = Domain.REAL if real < synthetic else Domain.SYNTHETIC
    both = mix(16, synthetic / (real + synthetic), real, synthetic)
    draws = [both.batch(step) for step in range(real + synthetic)]  # 16 * (real + synthetic) samples
    held = np.array([(d.domain == rare).sum() for d in draws])
    assert held.sum() == 16 * min(real, synthetic)
    assert set(held.tolist()) == {0, 1}
    gaps = np.diff(np.flatnonzero(held))
    every = (real + synthetic) / min(real, synthetic) / 16
    assert set(gaps.tolist()) <= {floor(every), floor(every) + 1}
    assert all(d.domain.size == d.row.size == d.seed.size == 16 for d in draws)
    rows = np.concatenate([d.row[d.domain == rare] for d in draws])
    alone = naive_stream(Mix(1, 3, [both.domains[rare]], None), rows.size)
    assert rows.tolist() == [row for row, _ in alone]


@pytest.mark.parametrize("share", [1e-9, 1 - 1e-9])
def test_no_share_is_rounded_to_none_or_all(share):
    step = 10**9 // 16 + 1
    drawn = sum(int(mix(16, share).batch(s).domain.sum()) for s in range(step - 2, step + 2))
    assert drawn == (1 if share < 0.5 else 4 * 16 - 1)


@pytest.mark.parametrize(
    ("batch_size", "share", "expected"),
    [
        (16, 2000 / 2008, (Domain.REAL, Fraction(16, 251))),
        (16, 0.0625, (Domain.SYNTHETIC, 1)),
        (10, 0.9, (Domain.REAL, 1)),  # in floats, 10 * (1 - 0.9) is less than 1
    ],
)
def test_the_rarest_domain_is_known_exactly(batch_size, share, expected):
    assert rarest(batch_size, share) == expected


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 40), batch_size=st.integers(1, 50))
def test_an_epoch_covers_every_row_once_and_epochs_differ(n, batch_size):
    rows = np.arange(n) * 3 + 1
    one = Mix(batch_size, 0, [DomainRows(Domain.REAL, REAL, rows)])
    drawn = np.concatenate([one.batch(step).row for step in range(-(-4 * n // batch_size))])[: 4 * n].reshape(4, n)
    for epoch in drawn:
        assert sorted(epoch.tolist()) == rows.tolist()
    if n >= 10:  # ten rows: two equal orders by chance are 1 in 3,628,800
        assert len({tuple(epoch) for epoch in drawn.tolist()}) == 4


def test_random_access_equals_reading_in_order():
    forward = [mix(real=3).batch(step) for step in range(40)]
    backward = mix(real=3)
    for step in np.random.Generator(np.random.Philox(0)).permutation(40).tolist():
        draws = backward.batch(step)
        np.testing.assert_array_equal(draws.row, forward[step].row)
        np.testing.assert_array_equal(draws.seed, forward[step].seed)


def test_known_draws_stay_what_they_are():
    """Written down once: order and seeds depend on no version of numpy or Python, and a change of them is a change of
    every training.
    """
    draws = mix().batch(5)
    assert draws.row.tolist() == KNOWN_ROWS
    assert draws.seed.tolist() == KNOWN_SEEDS
    assert nested_rows(20, 6, seed=1, digest=REAL).tolist() == KNOWN_SUBSET


def test_augmentation_is_paired_across_shares_and_batch_sizes():
    alone = naive_stream(Mix(1, 3, [mix().domains[0]], None), 60)
    for both in (mix(8, 0.5), mix(6, 0.25), mix(10, 0.9)):
        real = []
        for step in range(12):
            draws = both.batch(step)
            mine = draws.domain == Domain.REAL
            real += list(zip(draws.row[mine].tolist(), draws.seed[mine].tolist(), strict=True))
        assert real == alone[: len(real)]


def test_seed_and_data_change_order_and_augmentation():
    def first(seed, digest, domain=Domain.REAL):
        draws = Mix(32, seed, [DomainRows(domain, digest, range(100))]).batch(0)
        return tuple(draws.row.tolist()), tuple(draws.seed.tolist())

    variants = [first(0, REAL), first(1, REAL), first(0, SYNTHETIC), first(0, REAL, Domain.SYNTHETIC)]
    assert len({rows for rows, _ in variants}) == 4
    assert len({seeds for _, seeds in variants}) == 4


def test_augmentation_seeds_do_not_repeat_with_the_epoch():
    one = Mix(10, 0, [DomainRows(Domain.REAL, REAL, range(5))])
    seeds = np.concatenate([one.batch(step).seed for step in range(100)])
    assert np.unique(seeds).size == 1000  # 1 in 8,600 for a collision among 1,000 of 2**32


@given(n=st.integers(1, 300), seed=st.integers(0, 100), data=st.data())
@settings(max_examples=50, deadline=None)
def test_subsets_are_nested_and_distinct(n, seed, data):
    few = data.draw(st.integers(1, n))
    many = data.draw(st.integers(few, n))
    small, large = (nested_rows(n, count, seed=seed, digest=REAL) for count in (few, many))
    assert small.tolist() == large[:few].tolist()
    assert len(set(large.tolist())) == many
    assert set(large.tolist()) <= set(range(n))
    assert sorted(nested_rows(n, n, seed=seed, digest=REAL).tolist()) == list(range(n))


def test_every_row_is_equally_likely_in_a_subset():
    hits = np.zeros(20)
    for seed in range(2000):
        hits[nested_rows(20, 5, seed=seed, digest=REAL)] += 1
    chi2 = ((hits - 500) ** 2 / (500 * 0.75)).sum() * 19 / 20  # a sample without replacement
    assert chi2 < 43.8  # 99.9% of chi-squared with 19 degrees of freedom


@pytest.mark.parametrize(
    ("rows", "fraction", "count"),
    [(50, 0.05, 3), (30, 0.05, 2), (10, 0.05, 1), (3, 0.01, 1), (240, 0.1, 24), (7, 1.0, 7), (1000, 0.0005, 1)],
)
def test_a_fraction_is_rounded_half_up_and_never_to_nothing(rows, fraction, count):
    assert subset_count(rows, fraction) == count


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mix(4, 1.0), "0 < synthetic_share < 1"),
        (lambda: mix(4, 0.0), "0 < synthetic_share < 1"),
        (lambda: mix(4, None), "a synthetic_share goes with two domains"),
        (lambda: Mix(4, 0, [DomainRows(Domain.REAL, REAL, [1])], 0.5), "a synthetic_share goes with two domains"),
        (lambda: Mix(0, 0, [DomainRows(Domain.REAL, REAL, [1])]), "batch_size >= 1"),
        (lambda: Mix(4, 0, [DomainRows(Domain.REAL, REAL, [1])] * 2, 0.5), "domains must be"),
        (lambda: DomainRows(Domain.REAL, REAL, [1, 1]), "rows must be distinct"),
        (lambda: DomainRows(Domain.REAL, REAL, []), "rows must be distinct"),
        (lambda: mix().batch(-1), "step >= 0"),
        (lambda: nested_rows(3, 4, seed=0, digest=REAL), "1 <= count <= num_rows"),
        (lambda: subset_count(3, 0.0), "0 < fraction <= 1"),
        (lambda: Source([]), "at least one pack"),
    ],
)
def test_impossible_mixes_are_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_rows_are_a_read_only_copy():
    mine = np.arange(5)
    rows = DomainRows(Domain.REAL, REAL, mine)
    mine[0] = 99
    assert rows.rows.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="read-only"):
        rows.rows[0] = 1


def test_a_source_is_its_packs_one_after_another(face_pack, tmp_path):
    packs = [face_pack("a", 3, seed=0), face_pack("b", 1, seed=1), face_pack("c", 4, seed=2)]
    source = Source(packs)
    flat = [pack.sample(i) for pack in packs for i in range(len(pack))]
    assert len(source) == 8
    for i, truth in enumerate(flat):
        np.testing.assert_array_equal(source.sample(i)["image"], truth["image"])
    for i in (-1, 8):
        with pytest.raises(IndexError):
            source.sample(i)
    assert Source(packs[::-1]).digest != source.digest
    assert Source(packs[:2]).digest != source.digest
    assert Source(packs).digest == source.digest


def test_packs_that_differ_are_refused_by_name(face_pack, tmp_path):
    small, large = face_pack("small", 2), face_pack("large", 2, size=32)
    with pytest.raises(ValueError, match=r"large: column 'image' must be uint8\[16, 16, 3\] as in .*small, but is"):
        Source([small, large])
    sample = small.sample(0)
    other = write_pack(tmp_path / "other", [sample], source={}, classes=["a", "b"])
    with pytest.raises(ValueError, match="other: classes must be"):
        Source([small, other])
    more = write_pack(
        tmp_path / "more",
        [{**sample, "alpha": np.zeros((16, 16), np.uint8)}],
        source={},
        classes=small.manifest.classes,
    )
    assert Source([small, more]).columns == ("image", "segmentation", "id")


def test_packs_need_to_agree_only_in_the_columns_that_are_asked_for(face_pack, tmp_path):
    """Sets that were unified for one task: another class table, depth in two precisions, columns that one lacks."""
    first = face_pack("first", 2)
    sample = first.sample(0)
    depths = {"half": np.zeros((4, 4), np.float16), "single": np.zeros((4, 4), np.float32)}
    half, single = (
        write_pack(tmp_path / name, [{**sample, "depth": depth}], source={}, classes=[name])
        for name, depth in depths.items()
    )
    with pytest.raises(ValueError, match="single: classes must be"):
        Source([half, single])
    source = Source([half, single, first], ["image"])
    assert (source.columns, source.classes, len(source)) == (("image",), None, 4)
    assert list(source.sample(3)) == ["image"]
    np.testing.assert_array_equal(source.sample(0)["image"], sample["image"])
    with pytest.raises(ValueError, match=r"single: column .depth. must be float16\[4, 4\] as in .*half, but is"):
        Source([half, single], ["image", "depth"])
    with pytest.raises(ValueError, match="first: must have column 'depth', but has image, segmentation, id"):
        Source([half, first], ["image", "depth"])
    assert Source([first], ["image"]).digest == Source([first]).digest
    assert Source([first], ["image"]).classes == first.manifest.classes


KNOWN_ROWS = [14, 18, 0, 10, 106, 101, 111, 108]
KNOWN_SEEDS = [3421258728, 4219968401, 3368654462, 1418072615, 1728707011, 468850772, 2083789623, 2324108322]
KNOWN_SUBSET = [0, 18, 6, 7, 4, 3]
