"""Power meters: what they read, and the energy between an exact begin and end."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fake_power import Driver, chip, put, ultra96, zone
from lowwatt.errors import ToolError
from lowwatt.meters import Gap, Rail, Recording, available_meters, measure, meter_names, open_meter
from lowwatt.meters.trace import save_trace


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


class Scripted:
    """A meter of one rail whose reads are given: numbers, or what is raised."""

    name, kind, how, interval, provenance = "scripted", "watts", "measured", 0.005, "made up"

    def __init__(self, reads: Sequence[float | Exception], kind: str = "watts") -> None:
        self.rails, self.kind, self._reads = (Rail("5V"),), kind, iter(reads)

    def read(self) -> list[float]:
        value = next(self._reads)
        if isinstance(value, Exception):
            raise value
        return [value]


def recording(times: Sequence[float], watts: Sequence[float], **more: Any) -> Recording:
    values = [(value,) for value in watts]
    settings: dict[str, Any] = {"kind": "watts", "begin": 0.0, "end": 1.0, **more}
    return Recording("lab", how="measured", rails=(Rail("5V"),), times=list(times), values=values, **settings)


# -- the integral --------------------------------------------------------------------------------------------------


def test_a_ramp_is_exact_between_begin_and_end_that_are_no_reads() -> None:
    """w(t) = t, read at -0.5, 0.7 and 1.5: straight lines are exact for it."""
    assert recording([-0.5, 0.7, 1.5], [-0.5, 0.7, 1.5]).total == pytest.approx(0.5)


def test_mean_times_time_is_wrong_where_reads_are_uneven() -> None:
    found = recording([0.0, 0.1, 0.2, 1.0], [10.0, 10.0, 0.0, 0.0])
    assert found.total == pytest.approx(1.5) and found.watts == pytest.approx(1.5)


def test_a_counter_gives_its_difference_and_is_extended_where_the_last_read_failed() -> None:
    assert recording([-0.5, 1.5], [10.0, 14.0], kind="joules").total == pytest.approx(2.0)
    short = recording([0.0, 0.5], [0.0, 1.0], kind="joules", failures=[(1.001, "gone")])
    assert short.total == pytest.approx(2.0) and short.gaps == [Gap(0.5, 0.5, "gone")] and not short.whole


def test_nothing_read_is_an_error_and_not_zero() -> None:
    for kind in ("watts", "joules"):
        broken = recording([-0.1], [3.0], kind=kind, failures=[(0.5, "cable"), (1.1, "cable")])
        with pytest.raises(ToolError, match="no reading during the run") as caught:
            _ = broken.total
        assert caught.value.why == "cable"


def test_late_reads_of_watts_are_a_gap_and_those_of_a_counter_are_none() -> None:
    assert recording([0.0, 0.1, 0.9, 1.0], [1.0] * 4, interval=0.05).gaps == [
        Gap(0.1, pytest.approx(0.8), "the meter was not read in time")
    ]
    assert recording([0.0, 1.0], [0.0, 1.0], interval=0.05, kind="joules").gaps == []


def test_the_power_curve_has_the_same_integral() -> None:
    counter = recording([-0.1, 0.3, 1.2], [0.0, 4.0, 5.0], kind="joules")
    times, watts = counter.power()
    again = recording(times.tolist(), watts[:, 0].tolist())
    assert again.total == pytest.approx(counter.total)


# -- the sampler ---------------------------------------------------------------------------------------------------


def test_a_read_that_fails_midway_is_a_stated_gap() -> None:
    reads = [4.0, 4.0, OSError("bus error"), OSError("bus error"), *([4.0] * 999)]
    with measure(Scripted(reads)) as energy:
        time.sleep(0.1)
    assert len(energy.gaps) == 1 and energy.gaps[0].why == "bus error"
    assert energy.total == pytest.approx(4.0 * energy.seconds) and 0.1 <= energy.seconds < 1


def test_a_meter_that_breaks_for_good_leaves_its_end_open() -> None:
    reads = [4.0] * 4 + [ToolError("gone", why="unplugged")] * 999
    with measure(Scripted(reads)) as energy:
        time.sleep(0.1)
    last = energy.gaps[-1]
    assert last.why == "gone: unplugged" and last.start + last.seconds == pytest.approx(energy.seconds)
    assert not energy.whole and energy.total == pytest.approx(4.0 * energy.seconds)


@pytest.mark.parametrize("value", [OSError("no such device"), float("nan")])
def test_a_meter_that_cannot_be_read_at_all(value: Any) -> None:
    with pytest.raises(ToolError, match="cannot be read"), measure(Scripted([value])):
        pytest.fail("the run must not begin")


def test_the_thread_ends_where_the_run_raises() -> None:
    with pytest.raises(KeyError), measure(Scripted([1.0] * 999)) as energy:
        raise KeyError
    assert energy.end >= energy.begin > 0


def test_a_read_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowwatt.meters.sampler.STUCK", 0.05)
    free, meter = threading.Event(), Scripted([])
    answers = iter([True])
    meter.read = lambda: [1.0] if next(answers, False) else [float(free.wait(5))]  # type: ignore[method-assign]
    with measure(meter) as energy:
        time.sleep(0.02)
    assert "has not answered" in energy.gaps[-1].why
    free.set()
    for thread in threading.enumerate():
        if thread.name.startswith("meter"):
            thread.join(5)


# -- supplies ------------------------------------------------------------------------------------------------------


def test_ultra96_rails_have_pynqs_names_and_5v_is_the_whole(tmp_path: Path) -> None:
    meter = open_meter("pmbus", root=ultra96(tmp_path))
    names = [rail.name for rail in meter.rails]
    assert names == ["AUX", "1V2", "PSDDR", "INT", "3V3_D", "PSAUX", "PSINT_LP", "3V3", "PSINT_FP", "PSPLL", "5V"]
    assert dict(zip(names, meter.read(), strict=True)) == pytest.approx(
        {**dict(zip(names, [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 50], strict=True))}
    )
    with measure(meter, interval=0.01) as energy:
        time.sleep(0.05)
    assert energy.counted == ("5V",) and energy.total == pytest.approx(50 * energy.seconds)
    assert energy.joules["PSINT_FP"] == pytest.approx(4 * energy.seconds)


def test_rails_can_be_named_also_as_avnet_does(tmp_path: Path) -> None:
    root = ultra96(tmp_path)
    meter = open_meter("pmbus", root=root, rails=["VCCINT", "PSINT_FP", "INT"])
    assert [rail.name for rail in meter.rails] == ["INT", "PSINT_FP"] and meter.read() == [4.0, 4.0]
    assert "neither the FPGA fabric" in meter.rails[1].feeds
    with measure(meter) as energy:
        pass
    assert energy.counted == ("INT", "PSINT_FP")
    with pytest.raises(ToolError, match="no rail PSINT") as caught:
        open_meter("pmbus", root=root, rails=["PSINT"])
    assert "PSINT_" in caught.value.hint


def test_kv260_and_an_unknown_board(tmp_path: Path) -> None:
    chip(tmp_path / "kv260", 0, "ina260_u14", in1_input=5000, curr1_input=900, power1_input=4_510_000)
    assert [(r.name, w) for r, w in read(tmp_path / "kv260")] == [("SOM_5V0", pytest.approx(4.51))]
    chip(tmp_path / "own", 10, "ina226", "1-0040", in0_input=3, in1_input=12_000, curr1_input=250)
    chip(tmp_path / "own", 9, "tps546", "2-0024", in1_input=12_000, in1_label="vin", in2_input=1_000,
         in2_label="vout1", curr1_input=2_000, curr1_label="iout1")  # fmt: skip
    found = [(r.name, w) for r, w in read(tmp_path / "own")]
    assert found == [("tps546 2-0024 pout1", pytest.approx(2.0)), ("ina226 1-0040 power1", pytest.approx(3.0))]


def read(root: Path) -> list[tuple[Rail, float]]:
    meter = open_meter("pmbus", root=root)
    return list(zip(meter.rails, meter.read(), strict=True))


def test_a_changing_load_is_integrated(tmp_path: Path) -> None:
    """A rail that ramps from 1 W to 9 W in 0.4 s: 2 J; the mean of what a slow start reads is not the point."""
    folder = chip(tmp_path, 0, "ina260_u14", power1_input=1_000_000)
    meter = open_meter("pmbus", root=tmp_path)
    with Driver(folder / "power1_input", lambda t: 1e6 + 20e6 * t) as driver, measure(meter, 0.01) as energy:
        time.sleep(0.4)
    begin, end = energy.begin - driver.began, energy.end - driver.began
    assert energy.total == pytest.approx((end - begin) + 10 * (end**2 - begin**2), rel=0.02)


def test_where_no_supply_is_or_may_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chip(tmp_path, 0, "nvme", "nvme0", power1_input=1)
    with pytest.raises(ToolError, match="no power rail"):
        open_meter("pmbus", root=tmp_path)
    chip(tmp_path, 1, "ina260_u14", power1_input=1)
    refuse(monkeypatch, "power1_input")
    with pytest.raises(ToolError, match="may not be read") as caught:
        open_meter("pmbus", root=tmp_path)
    assert "chmod" in caught.value.hint


def refuse(monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """No right to open files of this name; tests may run as root, whom the kernel refuses nothing."""
    real = os.open

    def guarded(path: Any, *rest: Any, **more: Any) -> int:
        if str(path).endswith(ending):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest, **more)

    monkeypatch.setattr("os.open", guarded)


# -- processors and GPUs -------------------------------------------------------------------------------------------


def test_rapl_zones_nest_and_memory_stands_beside_the_package(tmp_path: Path) -> None:
    for name, called in (
        ("intel-rapl:0", "package-0"),
        ("intel-rapl:0:0", "core"),
        ("intel-rapl:0:1", "dram"),
        ("intel-rapl-mmio:0", "package-0"),
    ):
        zone(tmp_path, name, called, 500)
    meter = open_meter("rapl", root=tmp_path)
    assert [rail.name for rail in meter.rails] == ["package-0", "package-0/core", "package-0/dram"]
    with measure(meter) as energy:
        for name, more in (("intel-rapl:0", 5_000), ("intel-rapl:0:0", 3_000), ("intel-rapl:0:1", 1_000)):
            put(tmp_path / "class/powercap" / name / "energy_uj", 500 + more)
    assert energy.counted == ("package-0", "package-0/dram")
    zone(tmp_path, "intel-rapl:1", "psys", 0)
    with measure(open_meter("rapl", root=tmp_path)) as energy:
        pass
    assert energy.counted == ("psys",)


def test_a_counter_that_begins_anew_is_unwound(tmp_path: Path) -> None:
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    meter = open_meter("rapl", root=tmp_path)
    found = []
    for value in (950_000, 50_000, 999_999, 0):
        put(folder / "energy_uj", value)
        found.append(meter.read()[0])
    assert found == pytest.approx([0.05, 0.15, 1.099999, 1.1])


def test_a_counter_that_goes_back_without_a_range_is_a_gap(tmp_path: Path) -> None:
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 900_000, range_uj=0)
    meter = open_meter("rapl", root=tmp_path)
    put(folder / "energy_uj", 10)
    with pytest.raises(OSError, match="range is not known"):
        meter.read()
    put(folder / "energy_uj", 1_000_010)
    assert meter.read() == [1.0]


def test_rapl_without_rights_and_without_counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ToolError, match="no energy counter"):
        open_meter("rapl", root=tmp_path)
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    refuse(monkeypatch, "energy_uj")
    with pytest.raises(ToolError, match="may not be read") as caught:
        open_meter("rapl", root=tmp_path)
    assert "sudo chmod a+r" in caught.value.hint and "intel-rapl:0" in caught.value.where


class NVMLError(Exception):
    pass


def nvml(counts: bool) -> SimpleNamespace:
    """NVML's documented interface (nvidia-ml-py), two GPUs: mJ since the driver was loaded, mW now."""

    def total(handle: int) -> int:
        if not counts:
            raise NVMLError("Not Supported")
        return 1000 * handle + 250

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: b"Tesla",
        nvmlDeviceGetTotalEnergyConsumption=total,
        nvmlDeviceGetPowerUsage=lambda handle: 70_000 + handle,
    )


def test_nvml_counts_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(True))
    meter = open_meter("nvml")
    assert meter.kind == "joules" and meter.read() == pytest.approx([0.25, 1.25]) and meter.rails[0].feeds == "Tesla"
    monkeypatch.setitem(sys.modules, "pynvml", nvml(False))
    meter = open_meter("nvml", rails=["gpu1"])
    assert meter.kind == "watts" and meter.read() == pytest.approx([70.001])
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(ToolError, match="GPUs cannot be read"):
        open_meter("nvml")


# -- models and traces ---------------------------------------------------------------------------------------------


def test_the_modelled_meter_is_the_targets_formula() -> None:
    meter = open_meter("modelled", target="ultra96v2-lpcv")
    found = meter.over(24.557, 1000)
    assert found.total == pytest.approx(0.757 * 24.557 + 2.07) and found.how == "modelled"
    assert found.counted == ("PSINT_FP",) and "modelled: 0.757 W" in found.provenance and found.whole


def test_a_trace_comes_back_as_it_was(tmp_path: Path) -> None:
    rails = (Rail("5V", "all"), Rail("INT, core", "fabric", ("5V",)))
    run = Recording("pmbus", "watts", "measured", rails, "measured by hand", 0.05, begin=100.0, end=103.0)
    run.times = [99.9, 100.5, 101.0, 102.0, 103.1]
    run.values = [(5.0, 1.0), (6.0, 2.0), (9.0, 3.0), (7.5, 2.5), (7.0, 2.0)]
    run.failures = [(101.4, "bus error")]
    run.interval = 1.0
    save_trace(run, tmp_path / "t.csv")
    meter = open_meter(f"trace:{tmp_path / 't.csv'}")
    again = meter.over(3.0, 1)
    assert again.joules == pytest.approx(run.joules) and again.counted == ("5V",) and again.rails == rails
    assert [x for g in again.gaps for x in (g.start, g.seconds)] == pytest.approx([1.0, 1.0])
    assert meter.over(1.0, 1).total == pytest.approx((5.1666667 + 6) / 4 + (6 + 9) / 4, rel=1e-3)
    with pytest.raises(ToolError, match="too short"):
        meter.over(3.5, 1)


def test_a_counters_trace_has_its_energy(tmp_path: Path) -> None:
    counter = recording([-0.1, 0.3, 1.2], [0.0, 4.0, 5.0], kind="joules")
    save_trace(counter, tmp_path / "t.csv")
    assert open_meter(f"trace:{tmp_path / 't.csv'}").over(1.0, 1).total == pytest.approx(counter.total)


def test_a_trace_from_elsewhere_is_replayed_live(tmp_path: Path) -> None:
    (tmp_path / "lab.csv").write_text("time_s,supply\n1e9,2\n1000000000.05,2\n")
    meter = open_meter(f"trace:{tmp_path / 'lab.csv'}")
    with measure(meter, 0.01) as energy:
        time.sleep(0.03)
    assert energy.total == pytest.approx(2 * energy.seconds)
    time.sleep(0.05)
    with pytest.raises(ToolError, match="too short"):
        meter.read()


@pytest.mark.parametrize(
    "text",
    ["", "a,b\n1,2\n", "time_s\n1\n2\n", "time_s,x\n0,1\n", "time_s,x\n0,1\n1,w\n", "time_s,x\n1,1\n0,1\n",
     "time_s,x,y\n0,1,2\n1,1\n", "time_s,x\n0,nan\n1,1\n", "# {\ntime_s,x\n0,1\n0,1\n"],
)  # fmt: skip
def test_what_is_no_trace(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(ToolError, match="no power trace"):
        open_meter(f"trace:{tmp_path / 'bad.csv'}")


# -- names ---------------------------------------------------------------------------------------------------------


def test_meters_are_listed_and_opened_by_name(tmp_path: Path) -> None:
    assert tuple(status.name for status in available_meters()) == meter_names()
    for name, what in (("rapll", "unknown meter"), ("trace", "needs one"), ("rapl:x", "needs one")):
        with pytest.raises(ToolError, match=what):
            open_meter(name)
    with pytest.raises(ToolError, match="cannot read the power trace"):
        open_meter(f"trace:{tmp_path / 'missing.csv'}")


def test_auto_takes_the_first_that_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowwatt.meters.MEASURED", ("nvml",))
    monkeypatch.setitem(sys.modules, "pynvml", nvml(True))
    assert open_meter("auto").name == "nvml"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(ToolError, match="nothing measures") as caught:
        open_meter("auto")
    assert "nvml: GPUs cannot be read" in caught.value.why
