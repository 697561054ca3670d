"""Every format of traces from a few rows: what becomes of them, and what is said of a row that is wrong."""

import io
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grainwise.domain.errors import ArtifactError, ConfigurationError, PlatformError
from grainwise.domain.time import SECOND
from grainwise.workloads.traces import formats, tables
from grainwise.workloads.traces.formats import FORMATS, MOONCAKE_STEP, load
from grainwise.workloads.traces.shaping import expanded

APP, OTHER = "a" * 64, "a" * 32 + "b" * 32
MINUTES = [str(minute) for minute in range(1, 1441)]


def csv_of(header, *rows):
    return "\n".join([header, *rows, ""]).encode()


def parquet_of(**columns):
    pyarrow = pytest.importorskip("pyarrow")
    file = io.BytesIO()
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), file)
    return file.getvalue()


def day(app, function, counts):
    return ",".join(["owner", app, function, "http", *(str(counts.get(int(minute), 0)) for minute in MINUTES)])


FUNCTIONS_2019 = csv_of(
    ",".join(["HashOwner", "HashApp", "HashFunction", "Trigger", *MINUTES]),
    day(APP, "f" * 64, {1: 2, 3: 1}),
    day(OTHER, "0" * 64, {3: 4, 1440: 1}),
)
FUNCTIONS_2021 = csv_of(
    "app,func,end_timestamp,duration",
    f"{APP},f,12.5,0.5",
    f"{OTHER},g,20.0,9.0",
    f"{APP},f,14.25,0.25",
)
LLM = csv_of(
    "TIMESTAMP,ContextTokens,GeneratedTokens",
    "2023-11-16 18:17:03.9799600,4808,10",
    "2023-11-17 18:17:04.0319607,3180,8",
).replace(b"\n", b"\r\n")


def test_counts_per_minute_of_functions_2019_add_up_over_apps_or_are_those_of_one():
    whole = load(FUNCTIONS_2019, "day.csv")
    assert (whole.counts[0], whole.counts[2], whole.counts[1439]) == (2, 5, 1)
    assert (whole.arrival_count, whole.interval_us, whole.span_us) == (8, 60 * SECOND, 86_400 * SECOND)
    one = load(FUNCTIONS_2019, "day.csv", only=OTHER)
    assert (one.arrival_count, one.counts[2]) == (5, 4)
    assert load(FUNCTIONS_2019, "day.csv", only="ff").counts[:3] == [2, 0, 1]


def test_the_beginning_of_a_hash_is_enough_where_it_is_the_only_one():
    with pytest.raises(ConfigurationError, match=r"'aaaa' is the beginning of"):
        load(FUNCTIONS_2019, "day.csv", only="aaaa")
    with pytest.raises(ConfigurationError, match=r"day.csv has no app, function or segment 'q'"):
        load(FUNCTIONS_2019, "day.csv", only="q")


def test_an_arrival_of_functions_2021_is_its_end_less_its_duration():
    whole = load(FUNCTIONS_2021, "x.csv")
    assert whole.instants == [0, SECOND, 3 * SECOND]
    assert whole.sizes == []
    assert "CC BY 4.0" in whole.note
    assert load(FUNCTIONS_2021, "x.csv", only="f").instants == [0, 2 * SECOND]


def test_requests_of_azure_llm_keep_their_tokens_in_both_files():
    original = load(LLM, "code.csv")
    assert original.instants == [0, 86_400 * SECOND + 52_000]
    assert original.sizes == [4808, 3180]
    extract = load(parquet_of(t_ms=[52, 0], context_tokens=[3180, 4808], generated_tokens=[8, 10]), "code.parquet")
    assert extract.instants == [0, 52_000]
    assert extract.sizes == [4808, 3180]


def test_mooncake_groups_spread_over_their_steps_as_the_seed_says():
    rows = [(0, 10), (0, 20), (3000, 30)]
    extract = parquet_of(t_ms=[at for at, _ in rows], input_tokens=[size for _, size in rows], output_tokens=[1, 1, 1])
    lines = "".join(
        f'{{"timestamp": {at}, "input_length": {size}, "output_length": 1, "hash_ids": [0, 1]}}\n' for at, size in rows
    )
    found = load(extract, "m", 7)
    assert found == load(lines.encode(), "m", 7)
    assert found != load(extract, "m", 8)
    assert all(0 <= at < MOONCAKE_STEP for at in found.instants[:2])
    assert MOONCAKE_STEP <= found.instants[2] < 2 * MOONCAKE_STEP
    assert found.sizes[2] == 30
    assert sorted(found.sizes[:2]) == [10, 20]


def test_files_of_counts_fill_gaps_with_nothing_and_put_segments_end_to_end():
    assert load(csv_of("second,requests", "0,2", "3,1"), "c").counts == [2, 0, 0, 1]
    segments = parquet_of(segment=["july", "july", "august"], minute=[0, 1, 1], requests=[1, 2, 3])
    whole = load(segments, "n")
    assert (whole.counts, whole.interval_us) == ([1, 2, 0, 3], 60 * SECOND)
    assert "july, august end to end" in whole.note
    assert load(segments, "n", only="august").counts == [0, 3]


def test_bare_counts_are_seconds_wherever_the_reader_cuts_them(monkeypatch):
    text = b"1 0 12 0\n7 100\n" * 9000
    found = load(text, "w.txt")
    assert found.counts == [1, 0, 12, 0, 7, 100] * 9000
    assert load(text.rstrip(), "w.txt").counts == found.counts


def test_counts_become_instants_within_their_intervals():
    counted = load(csv_of("second,requests", "0,50", "2,3"), "c")
    drawn = expanded(counted, 3)
    assert drawn.instants == sorted(drawn.instants)
    assert [sum(at // SECOND == second for at in drawn.instants) for second in range(3)] == [50, 0, 3]
    assert drawn == expanded(counted, 3)
    assert drawn != expanded(counted, 4)


@pytest.mark.parametrize(
    ("column", "at", "instant"), [("t_us", "1500000", 1_500_000), ("t_ms", "2.5", 2500), ("t_s", "1e1", 10**7)]
)
def test_plain_arrivals_are_sorted_with_their_sizes(column, at, instant):
    found = load(csv_of(f"app,{column},size", f"x,{at},3.5", "y,0,7"), "p.csv")
    assert (found.instants, found.sizes, found.span_us) == ([0, instant], [7, 3.5], instant + 1)
    assert load(csv_of(column, at), "p.csv").sizes == []
    assert load(csv_of(f"app,{column},size", f"x,{at},3.5", "y,0,7"), "p.csv", only="x").sizes == [3.5]


def test_a_byte_order_mark_and_blank_lines_are_no_rows():
    assert load(b"\xef\xbb\xbft_ms\n\n5\n\n", "p.csv").instants == [5000]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (csv_of("t_ms,size", "1,2", "x,3"), "f, line 3, column t_ms: 'x' is not a number >= 0"),
        (csv_of("t_ms,size", "1,2", "3,-1"), "f, line 3, column size: '-1' is not a number >= 0"),
        (csv_of("t_ms,size", "1,nan"), "f, line 2, column size: 'nan'"),
        (csv_of("t_ms,size", "1,2", "1"), "f, line 3: 1 columns where the header has 2"),
        (csv_of("t_ms", '"1'), "f, line 3 is no CSV text"),
        (b"t_ms\n\xff\n", "f, line 2, column t_ms: '\\\\xff' is not a number >= 0"),
        (csv_of("second,requests", "0,1.5"), "f, line 2, column requests: '1.5' is not a whole number >= 0"),
        (csv_of("second,requests", "1e12,1"), "f, line 2, column second: '1e12' is not below"),
        (csv_of("minute,requests", "0,0"), "f holds no arrivals"),
        (csv_of("t_ms"), "f holds no arrivals"),
        (FUNCTIONS_2019.replace(b",http,2,", b",http,two,"), "f, line 2, column 1: 'two' is not a number >= 0"),
        (FUNCTIONS_2021.replace(b"20.0", b"end"), "f, line 3, column end_timestamp: 'end' is not a number >= 0"),
        (LLM.replace(b"2023-11-17", b"2023-13-17"), "f, line 3, column TIMESTAMP: '2023-13-17 18:17:04.0319607' is not a time"),
        (LLM.replace(b"2023-11-17", b"yesterday"), "f, line 3, column TIMESTAMP"),
        (
            b'{"timestamp": 0, "input_length": 1, "output_length": 1}\n{"timestamp": 0}\n',
            "f, line 2, column input_length: None",
        ),
        (b'{"timestamp": 0, "input_length": 1, "output_length": 1}\nhuh\n', "f, line 2 is no JSON object"),
        (csv_of("when,what", "1,2"), "f has columns when, what, which fit no format"),
        (b"", "f is empty"),
        (b"BZh91AY", "f is an archive: unpack it"),
        (b"PAR1 and no more", "f is no Parquet that can be read"),
    ],
)
def test_what_is_malformed_is_named_by_file_line_and_column(data, said):
    with pytest.raises(ArtifactError) as caught:
        load(data, "f")
    assert said in str(caught.value)


@pytest.mark.parametrize("data", [LLM, csv_of("t_ms", "1"), csv_of("second,requests", "0,1")])
def test_a_part_of_a_trace_that_has_none_is_refused(data):
    with pytest.raises(ConfigurationError, match=r"f \(.*\) has no apps, functions or segments, so 'x' cannot be taken"):
        load(data, "f", only="x")


@given(st.binary(max_size=200))
def test_any_bytes_are_arrivals_or_an_error_that_helps(data):
    try:
        found = load(b"t_s\n" + data, "t.csv")
    except ArtifactError as error:
        assert str(error).startswith("t.csv")
    else:
        assert found.instants == sorted(found.instants)


def test_a_malformed_row_of_parquet_is_named_by_its_number():
    with pytest.raises(ArtifactError, match=r"f, row 2, column t_ms: None is not a number >= 0"):
        load(parquet_of(t_ms=[1, None], input_tokens=[1, 1], output_tokens=[1, 1]), "f")


def test_a_format_can_be_forced():
    data = csv_of("t_ms,context_tokens,generated_tokens", "7,1,1")
    assert load(data, "f").instants == [7000]
    assert load(data, "f", format_name="t_ms").sizes == []
    with pytest.raises(ArtifactError, match="f has no column second among t_ms"):
        load(data, "f", format_name="counts-per-second")
    with pytest.raises(ConfigurationError, match="no format 'csv' of traces; known: azure-functions-2019"):
        load(data, "f", format_name="csv")


def test_names_of_formats_differ():
    assert len({known.name for known in FORMATS}) == len(FORMATS)


def test_what_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(formats, "MAX_ARRIVALS", 2)
    with pytest.raises(ArtifactError, match="f holds more than 2 arrivals"):
        load(csv_of("t_ms", "1", "2", "3"), "f")
    monkeypatch.setattr(tables, "MAX_BYTES", 5)
    with pytest.raises(ArtifactError, match="f has 11 bytes, above the limit of 5"):
        load(csv_of("t_ms", "1", "2", "3"), "f")


def test_a_file_is_read_by_its_path_and_one_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "f.csv"
    path.write_bytes(csv_of("t_ms", "1"))
    assert load(path, path.name).instants == [1000]
    with pytest.raises(ArtifactError, match="cannot be read: No such file"):
        load(tmp_path / "g.csv", "g.csv")


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(PlatformError, match=r'pip install "grainwise\[report\]"'):
        load(b"PAR1....PAR1", "f.parquet")


def test_the_guide_names_every_format_and_its_example_holds():
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "traces.md").read_text()
    assert [known.name for known in FORMATS if f"`{known.name}`" not in page] == []
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    exec(compile(example, "traces.md", "exec"), {})
