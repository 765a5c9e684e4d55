"""Findings of attention-parts: what the published memory counted, and what a cold run times."""

from __future__ import annotations

from ablation_report.findings.base import Outcome, OutcomeVerdict
from ablation_report.findings.judge import combine
from ablation_report.findings.suites_base import (
    Pair,
    SuiteFinding,
    never_run,
    outcome,
    pairs,
    ranged,
)
from ablation_report.findings.words import counted
from ablation_report.metrics import is_different
from ablation_report.suite_series import short_case
from ablation_report.suite_sources import Measure, SuiteSource, said_of

SUITE = "attention-parts"
FLASH, FUSED = "ablation_flash_course", "ablation_fused_row"
# Published names come in pairs, the course's own form and the one of the published text
PUBLISHED_PAIRS = (
    ("student_flash", "student_fused_row"),
    ("reference_flash", "reference_fused_row"),
)
FLOAT32_BYTES = 4
# One of the two sources is four bytes below the other in every row
ROUNDING_BYTES = 4
SAME_TIME = 0.15
# A published figure has no interval
PUBLISHED_FLOOR = 0.05


def flash_takes_less(source: SuiteSource) -> Outcome:
    """Judge whether the tiled form takes less memory than the one that finishes row by row."""
    if source.is_published:
        return _published_memory(source)
    found: dict[str, tuple[int, int]] = {}
    used: list[Measure] = []
    verdicts: list[OutcomeVerdict] = []
    for measure in source.measures:
        other = source.find(measure["case"], FUSED, measure["phase"])
        if measure["impl"] != FLASH or other is None:
            continue
        mine, theirs = measure["mem_scratch_bytes"], other["mem_scratch_bytes"]
        if mine is None or theirs is None:
            continue
        found[_place(measure)] = (mine, theirs)
        used += [measure, other]
        verdicts.append("holds" if mine < theirs else "does not hold")
    if not found:
        return never_run(f"no case with the scratch of both {FLASH} and {FUSED}")
    # Some sizes of tiles may be smaller than a row, others not
    verdict = verdicts[0] if len(set(verdicts)) == 1 else "not resolved"
    figures = {place: mine / theirs for place, (mine, theirs) in found.items() if theirs}
    sentence = f"Its scratch over that of the other form: {ranged(figures)}."
    place, (mine, theirs) = next(iter(found.items()))
    sentence += f" At {place}: {mine:,} B against {theirs:,} B."
    return outcome(verdict, sentence, used, figures)


def _place(measure: Measure) -> str:
    threads: int = measure["threads"]
    return f"{short_case(measure)}, {counted(threads, 'thread')}"


def _published_memory(source: SuiteSource) -> Outcome:
    """Of the published figures, take the output away: what is left is what was seen of scratch."""
    parts: list[str] = []
    used: list[Measure] = []
    verdicts: list[OutcomeVerdict] = []
    for measure, other in _published_pairs(source):
        mine, theirs = measure["published_memory_bytes"], other["published_memory_bytes"]
        if not mine or not theirs:
            continue
        used += [measure, other]
        output = FLOAT32_BYTES * measure["B"] * measure["H"] * measure["Nq"] * measure["d"]
        is_output = abs(mine - output) <= ROUNDING_BYTES
        if is_output:
            # Nothing of the scratch was counted, so that less of it was not shown
            verdicts.append("does not hold")
            parts.append(f"the {mine:,} B of {measure['impl']} are its output alone ({output:,} B)")
        else:
            verdicts.append("holds" if mine < theirs else "does not hold")
            parts.append(f"{measure['impl']} {mine:,} B, {other['impl']} {theirs:,} B")
    if not used:
        return never_run("no figures of memory of a flash form and a fused one")
    sentence = "; ".join(dict.fromkeys(parts))
    sentence = f"{sentence[0].upper()}{sentence[1:]}."
    if "does not hold" in verdicts:
        sentence += " What was allocated before the profiler's range opened was not seen."
    return outcome(combine(verdicts), sentence, used, memory=True)


def _published_pairs(source: SuiteSource) -> list[tuple[Measure, Measure]]:
    found = []
    for flash, fused in PUBLISHED_PAIRS:
        for measure in source.measures:
            other = source.find(measure["case"], fused, measure["phase"])
            if measure["impl"] == flash and other is not None:
                found.append((measure, other))
    return found


def cold_run_is_the_time(source: SuiteSource) -> Outcome:
    """Judge whether one cold run under the profiler takes the time of a call."""
    found: dict[Measure, float] = {}
    for measure in source.measures:
        cold = measure.detail("published_style_ns")
        if cold and measure.time_ns:
            found[measure] = cold / measure.time_ns
    if not found:
        return never_run("no time of a cold run under the profiler beside one of many calls")
    verdicts: list[OutcomeVerdict] = []
    for measure, ratio in found.items():
        is_near = abs(ratio - 1) <= SAME_TIME
        is_noisy = measure.timing is not None and bool(measure.timing.is_noisy)
        far: OutcomeVerdict = "not resolved" if is_noisy else "does not hold"
        verdicts.append("holds" if is_near else far)
    figures = {f"{m['impl']}, {_place(m)}": ratio for m, ratio in found.items()}
    sentence = (
        "A first call in a new process, under the profiler, over the median call: "
        f"{ranged(figures)}."
    )
    return outcome(combine(verdicts), sentence, found, figures)


def flash_is_slower(source: SuiteSource) -> Outcome:
    """Judge whether the tiled form is slower, on as many threads as the other."""
    if source.is_published:
        couples = _published_pairs(source)
        ratios = [(m, o, source.against(m, o["impl"])) for m, o in couples]
        found = [Pair(m, o, ratio) for m, o, ratio in ratios if ratio is not None]
    else:
        found = pairs(source, FLASH, FUSED)
    if not found:
        return never_run("no case with times of both a tiled form and one row by row")
    verdicts = [_slower(source, pair) for pair in found]
    figures = {_where(source, pair): pair.ratio.median for pair in found}
    sentence = f"Time of the tiled form over that of the other: {ranged(figures)}."
    n_open = verdicts.count("not resolved")
    if n_open and not source.is_published:
        sentence += f" {n_open} of {len(found)} are not resolved."
    if source.is_published:
        sentence += (
            " The fused form is the one that used threads, where threads are stated: "
            "algorithm and number of threads are not told apart."
        )
    measures = [m for pair in found for m in (pair.measure, pair.base)]
    return outcome(combine(verdicts), sentence, measures, figures)


def _where(source: SuiteSource, pair: Pair) -> str:
    if source.is_published:
        return f"{pair.measure['impl']} over {pair.base['impl']}"
    return _place(pair.measure)


def _slower(source: SuiteSource, pair: Pair) -> OutcomeVerdict:
    if source.is_published:
        # Another number of threads on each side: the claim about the algorithm stays open
        return "not resolved" if pair.ratio.median > 1 + PUBLISHED_FLOOR else "does not hold"
    said = said_of(pair.ratio)
    if not is_different(said):
        return "not resolved" if said == "not resolved" else "does not hold"
    return "holds" if said == "slower" else "does not hold"


FINDINGS = (
    SuiteFinding(
        "suite-flash-memory",
        SUITE,
        "The published memory of flash attention",
        "The course's flash form takes less memory than the one that finishes row by row.",
        "The memory is reduced further, from 557,056 to 524,288 bytes.",
        flash_takes_less,
    ),
    SuiteFinding(
        "suite-cold-run",
        SUITE,
        "One cold run under the profiler",
        f"One cold run under the profiler takes the time of a call, within {SAME_TIME:.0%}.",
        "Every published time is that of one such run.",
        cold_run_is_the_time,
    ),
    SuiteFinding(
        "suite-flash-slower",
        SUITE,
        "Tiles against rows on as many threads",
        "The course's flash form is slower than the one that finishes row by row, on as many "
        "threads.",
        "It is slower, which the handout asks to be explained.",
        flash_is_slower,
    ),
)
