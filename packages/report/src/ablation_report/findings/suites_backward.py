"""Findings of attention-backward: the memory column, means and outliers, growth, the first OOM."""

from __future__ import annotations

from ablation_report.findings.base import Outcome, OutcomeVerdict
from ablation_report.findings.judge import combine
from ablation_report.findings.suites_base import (
    SuiteFinding,
    never_run,
    outcome,
    pairs,
    ranged,
    target_outcome,
    timed,
    within,
)
from ablation_report.findings.words import listed, times, two_digits
from ablation_report.suite_series import MIN_LENGTH, Series, series_of
from ablation_report.suite_sources import Measure, SuiteSource

SUITE = "attention-backward"
SDPA, ABLATION = "torch_sdpa_flash", "ablation_flash"
COURSE, PUBLISHED_COURSE = "torch_unfused_course", "torch_unfused_own_softmax"
FLASH_FORMS = (SDPA, ABLATION)
FLOAT32_BYTES = 4
# Exponentials and weights are what the backward of a softmax in parts needs
SAVED_ARRAYS = 2
# What a column may be off before it is another quantity
SAME_MEMORY = 0.1
# Half of its mean: one call of many has taken many times the others
RUINED_CV = 0.5
FAR_MEAN = 0.10
LAST_LENGTH = 16384
UNFUSED_POWER, FLASH_POWER, POWER_TOLERANCE = 2.0, 1.0, 0.05
BACKWARD_TARGET = 1.2
BACKWARD = "bwd"


def is_unfused(impl: str) -> bool:
    """True for a form that has all scores in memory, recorded or published."""
    return impl.startswith("torch_unfused")


def memory_column(source: SuiteSource) -> Outcome:
    """Judge whether the column that was published as memory before the backward is that."""
    if source.is_published:
        return _published_memory_column(source)
    found = {
        measure: measure.detail("mem_published_style_bytes") / measure["mem_saved_bytes"]
        for measure in timed(source, COURSE)
        if measure["Nk"] >= MIN_LENGTH
        and measure.detail("mem_published_style_bytes")
        and measure["mem_saved_bytes"]
    }
    if not found:
        return never_run(f"{COURSE} at N of {MIN_LENGTH} and more, both ways to count its memory")
    figures = {_place(measure): ratio for measure, ratio in found.items()}
    verdicts = {
        "not resolved" if measure["mem_disagree"] else within(ratio, 1.0, SAME_MEMORY)
        for measure, ratio in found.items()
    }
    return outcome(
        combine(verdicts),
        f"The peak with the previous graph alive, over what one forward keeps: {ranged(figures)}.",
        found,
        figures,
    )


def _place(measure: Measure) -> str:
    mask = "" if measure.is_published else f", {measure.mask}"
    return f"N {measure['Nk']}, d {measure['d']}{mask}"


def _published_memory_column(source: SuiteSource) -> Outcome:
    """The published column in arrays of all scores; a softmax in parts keeps two of them."""
    found: dict[Measure, float] = {}
    for measure in source.measures:
        if measure["published_memory_bytes"] and measure["Nk"] >= MIN_LENGTH:
            scores = FLOAT32_BYTES * measure["B"] * measure["H"] * measure["Nq"] * measure["Nk"]
            found[measure] = measure["published_memory_bytes"] / scores
    if not found:
        return never_run(f"no figure of memory at N of {MIN_LENGTH} and more")
    longest = max(measure["Nk"] for measure in found)
    arrays = [value for measure, value in found.items() if measure["Nk"] == longest]
    ratios = [value / SAVED_ARRAYS for value in arrays]
    span = listed(list(dict.fromkeys(f"{value:.2f}" for value in (min(arrays), max(arrays)))))
    over = listed(list(dict.fromkeys(times(value) for value in (min(ratios), max(ratios)))))
    sentence = (
        f"At N {longest} the column is {span} arrays of all scores. A forward of this form keeps "
        f"{SAVED_ARRAYS}, exponentials and weights: {over} what the backward needs, a peak with "
        "two graphs alive."
    )
    verdict = combine(within(ratio, 1.0, SAME_MEMORY) for ratio in ratios)
    figures = {_place(measure): value for measure, value in found.items()}
    return outcome(verdict, sentence, found, figures, memory=True)


def means_stand(source: SuiteSource) -> Outcome:
    """Judge whether the mean of each row stands for a typical call."""
    if source.is_published:
        return _published_means(source)
    found = {
        m: m.timing.mean_ns / m.timing.time_ns
        for m in source.measures
        if m.timing and m.timing.mean_ns
    }
    if not found:
        return never_run("no time of a call")
    far = {m: ratio for m, ratio in found.items() if abs(ratio - 1) > FAR_MEAN}
    sentence = f"{len(far)} of {len(found)} means lie more than {FAR_MEAN:.0%} from their median"
    if far:
        most = max(far, key=lambda m: abs(far[m] - 1))
        sentence += (
            f", at most {times(far[most])} ({most['impl']}, {most['phase']}, {_place(most)})"
        )
    used = far or found
    # Of few samples one outlier decides
    is_short = all(m.timing and (m.timing.n or 0) < 6 for m in found)
    verdict: OutcomeVerdict = "does not hold" if far else "holds"
    return outcome(
        "not resolved" if is_short else verdict,
        f"{sentence}.",
        used,
        {f"{m['impl']}, {m['phase']}, {_place(m)}": ratio for m, ratio in used.items()},
    )


def _published_means(source: SuiteSource) -> Outcome:
    """Name the means with a standard deviation that no typical call has, and one case twice."""
    spread = {m: m.timing.cv for m in source.measures if m.timing and m.timing.cv is not None}
    if not spread:
        return never_run("no mean with its standard deviation")
    ruined = [m for m, cv in spread.items() if cv > RUINED_CV]
    twice = _repeated(source)
    parts = []
    if ruined:
        words = [_mean(m) + f" ({m['impl']}, {m['phase']}, {_place(m)})" for m in ruined]
        parts.append(f"Ruined by outliers: {', '.join(words)}")
    if twice:
        first, second = max(twice, key=lambda pair: _change(*pair))
        parts.append(
            f"The same {first['impl']} ({first['phase']}, {_place(first)}) is {_mean(first)} in "
            f"one table and {_mean(second)} in the next"
        )
    if not parts:
        parts = [f"No standard deviation above {RUINED_CV:.0%} of its mean, and no case twice"]
    used = [*ruined, *(m for pair in twice for m in pair)] or list(spread)
    figures = {f"cv {m['impl']}, {m['phase']}, {_place(m)}": spread[m] for m in ruined}
    return outcome("does not hold" if ruined else "holds", ". ".join(parts) + ".", used, figures)


def _change(first: Measure, second: Measure) -> float:
    times_ns = first.time_ns or 0, second.time_ns or 0
    return max(times_ns) / min(times_ns) if all(times_ns) else 0


def _mean(measure: Measure) -> str:
    if measure.timing is None or measure.timing.mean_ns is None:
        return "nothing"
    mean = f"{measure.timing.mean_ns / 1e6:g}"
    std = measure.timing.std_ns
    return f"{mean} ms" if std is None else f"{mean} ± {std / 1e6:g} ms"


def _repeated(source: SuiteSource) -> list[tuple[Measure, Measure]]:
    """The pairs of times of one case, implementation and phase."""
    found: dict[tuple[str, str, str], list[Measure]] = {}
    for measure in source.measures:
        if measure.timing:
            key = (measure["case"], measure["impl"], measure["phase"])
            found.setdefault(key, []).append(measure)
    return [(group[0], group[1]) for group in found.values() if len(group) > 1]


def saved_grows(source: SuiteSource) -> Outcome:
    """Judge the powers of the length with which the kept bytes grow."""
    if source.is_published:
        return _published_growth(source)
    verdicts: list[OutcomeVerdict] = []
    figures: dict[str, float] = {}
    used: list[Measure] = []
    for series in series_of(source):
        power = series.exponent(_kept)
        if power is None or not (is_unfused(series.impl) or series.impl in FLASH_FORMS):
            continue
        target = UNFUSED_POWER if is_unfused(series.impl) else FLASH_POWER
        said = within(power, target, POWER_TOLERANCE)
        mine = [m for m in series.measures if m["Nk"] >= MIN_LENGTH and _kept(m)]
        is_open = said != "holds" and any(m["mem_disagree"] for m in mine)
        verdicts.append("not resolved" if is_open else said)
        figures[f"{series.impl}, d {mine[0]['d']}, {mine[0].mask}"] = power
        used += mine
    if not figures:
        return never_run(f"no kept bytes at two lengths of {MIN_LENGTH} and more")
    told = ranged(figures, "{:.3f}".format, "series")
    sentence = f"Powers of N, fitted over N of {MIN_LENGTH} and more: {told}."
    return outcome(combine(verdicts), sentence, used, figures)


def _kept(measure: Measure) -> int | None:
    found: int | None = measure["mem_saved_bytes"]
    return found


def _published_growth(source: SuiteSource) -> Outcome:
    """The published column is another quantity: how it grows says nothing of what is kept."""
    powers: list[float] = []
    used: list[Measure] = []
    for series in series_of(source):
        power = series.exponent(lambda m: m["published_memory_bytes"])
        if power is not None:
            powers.append(power)
            used += [m for m in series.measures if m["published_memory_bytes"]]
    if not powers:
        return never_run("no figure of memory at two lengths")
    return never_run(
        "the published column is a peak with inputs, two graphs and a fixed workspace in it; it "
        f"grows with powers of N from {min(powers):.2f} to {max(powers):.2f}",
        used,
        memory=True,
    )


def first_oom(source: SuiteSource) -> Outcome:
    """Judge where forms with all scores in memory stop to fit."""
    forward = [s for s in series_of(source) if is_unfused(s.impl) and s.phase == "fwd"]
    verdicts: list[OutcomeVerdict] = []
    parts: list[str] = []
    used: list[Measure] = []
    for series in forward:
        said, text, measure = _oom_of(series)
        if measure is not None:
            verdicts.append(said)
            parts.append(text)
            used.append(measure)
    if not used:
        return never_run(f"no unfused forward at N {LAST_LENGTH}, and none out of memory before")
    counts: dict[str, int] = {}
    for text in parts:
        counts[text] = counts.get(text, 0) + 1
    words = [f"{text} ({count} series)" for text, count in counts.items()]
    flash = [m["Nk"] for m in timed(source, *FLASH_FORMS)]
    tail = f" Flash forms run up to N {max(flash)}." if flash else ""
    used += [m for m in timed(source, *FLASH_FORMS) if m["Nk"] == max(flash)]
    sentence = f"{'; '.join(words)}.{tail}"
    limit = ((source.header or {}).get("limits") or {}).get("memory_limit_bytes")
    if limit is None:
        return outcome(combine(verdicts), sentence, used)
    # A limit that was asked for says nothing of the machine
    sentence = f"Under a limit of {limit / 2**30:.1f} GiB for an implementation: {sentence}"
    return outcome("not resolved", sentence, used)


def _oom_of(series: Series) -> tuple[OutcomeVerdict, str, Measure | None]:
    """The verdict of one series, what it says, and the measure that it rests on."""
    oom = series.first_oom
    if oom is not None and oom["Nk"] <= LAST_LENGTH:
        arrays = two_digits(FLOAT32_BYTES * oom["B"] * oom["H"] * oom["Nk"] ** 2 / 2**30)
        text = f"{series.impl} first runs out at N {oom['Nk']} ({oom['reason']}), "
        text += f"{arrays} GiB an array of scores"
        return "holds", text, oom
    last = next((m for m in series.measures if m["Nk"] == LAST_LENGTH), None)
    if last is None:
        return "not measured", "", None
    if last["status"] == "ok":
        return "does not hold", f"{series.impl} runs at N {LAST_LENGTH}", last
    return "not resolved", f"{series.impl} is {last['status']} at N {LAST_LENGTH}", last


def backward_target(source: SuiteSource) -> Outcome:
    """Judge our flash backward against that of SDPA."""
    found = pairs(
        source,
        ABLATION,
        SDPA,
        lambda m: m["phase"] == BACKWARD and m["Nk"] >= MIN_LENGTH and m["threads"] == 1,
    )
    if not found:
        wanted = f"one thread, N of {MIN_LENGTH} and more"
        return never_run(f"no backward ({wanted}) with times of both {ABLATION} and {SDPA}")
    return target_outcome(found, BACKWARD_TARGET)


FINDINGS = (
    SuiteFinding(
        "suite-memory-column",
        SUITE,
        "The published memory before the backward",
        "The column published as memory before the backward is what the forward keeps for it.",
        "12385.75 MiB at N 8192, printed as the memory in use before the backward starts.",
        memory_column,
    ),
    SuiteFinding(
        "suite-means",
        SUITE,
        "Means of calls",
        "The mean of the calls of a row stands for a typical one.",
        "Means and standard deviations of 100 calls; one of them is 0.426 ± 0.419 ms.",
        means_stand,
    ),
    SuiteFinding(
        "suite-saved-grows",
        SUITE,
        "Growth of the memory",
        f"What a forward keeps grows with the length to the power of {UNFUSED_POWER} ± "
        f"{POWER_TOLERANCE} unfused and {FLASH_POWER} ± {POWER_TOLERANCE} in flash forms.",
        "The memory grows with the square of the length.",
        saved_grows,
    ),
    SuiteFinding(
        "suite-first-oom",
        SUITE,
        "Where attention with all scores stops",
        f"Attention that keeps all scores does not fit at N {LAST_LENGTH}, at any head size.",
        f"Out of memory at N {LAST_LENGTH} at every head size.",
        first_oom,
    ),
    SuiteFinding(
        "suite-backward-target",
        SUITE,
        "Our backward against SDPA",
        f"On one thread our flash backward is {BACKWARD_TARGET} times as fast as PyTorch's at N of "
        f"{MIN_LENGTH} and more.",
        None,
        backward_target,
    ),
)
