#!/usr/bin/env python3
"""Runs a daemon for an hour, and fails if its memory, open files, threads or series grow.

    benches/soak.py [--minutes 60] [--rate 200] [--json target/soak.json] [target/release/llmload]

The load is streams to a simulator in another process. 5 % of the requests have a fault. The script
reloads the daemon every minute and takes a sample every 10 s. It needs only Python, and uses only
loopback. docs/soak.md has the results.
"""
import argparse, collections, json, math, os, pathlib, signal, subprocess, sys, tempfile
import time, urllib.request

INTERVAL = 10
RELOAD = 60
# The first samples show the growth to the working size: buffers, pools and the heap of the
# allocator.
WARM_UP = 5
FAULTS = {
    "http_429": 1,
    "http_500": 1,
    "reset": 1,
    "stall": 0.5,
    "stream_error": 0.75,
    "truncation": 0.75,
}
SLOPE_LIMIT = 50
# The number of open files varies with the number of connections.
SPARE_FILES = 20
# A gauge appears with the first Retry-After header of a scenario, and goes with the scenario.
SPARE_SERIES = 2
TIMEOUT = 30


def configuration(rate, address, turn):
    """Returns the configuration after `turn` reloads. Each reload changes settings of the scenario
    `load`. Every second one adds or removes a scenario."""
    guest = "  guest: {target: sim, start: now, rate: 1/s, request: {max_tokens: 4}}\n"
    guest = guest if turn % 2 else ""
    return f"""seed: 1
failures: {{dir: failures, max_bytes: 8MiB, prompts: full}}
targets:
  sim:
    base_url: http://{address}/v1
    model: simulated-8b
    timeouts: {{first_token: 10s, idle: 2s, total: 30s}}
scenarios:
  load:
    target: sim
    start: now
    max_concurrency: {1000 + turn % 7}
    request: {{max_tokens: 16, temperature: 0.{turn % 10}}}
    slo: {{ttft: {{p99: {1 + turn % 3}s}}, success_rate: 90%}}
    schedule: [{{constant: {rate}/s, for: 1h}}]
{guest}"""


class Process:
    """A process of llmload whose log goes to a file."""

    def __init__(self, marker, log, *command):
        self.log = log
        words = [str(word) for word in command]
        with open(log, "wb") as file:
            self.child = subprocess.Popen(words, stderr=file, stdout=subprocess.DEVNULL)
        until = time.monotonic() + TIMEOUT
        while True:
            text = log.read_text()
            if marker in text:
                self.address = text.split(marker, 1)[1].split("/")[0].strip()
                return
            if self.child.poll() is not None or time.monotonic() > until:
                self.child.kill()
                sys.exit(f"{command[0]} did not start:\n{text}")
            time.sleep(0.05)

    def memory_kib(self, name):
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1])

    def threads(self):
        return len(os.listdir(f"/proc/{self.child.pid}/task"))


def request(address, path, method="GET"):
    begun = time.monotonic()
    call = urllib.request.Request(f"http://{address}{path}", method=method)
    with urllib.request.urlopen(call, timeout=TIMEOUT) as response:
        return response.read().decode(), time.monotonic() - begun


def samples_of(page):
    """Returns the sum of the samples of each metric, and the number of series."""
    sums, series = collections.Counter(), 0
    for line in page.splitlines():
        if line and not line.startswith("#"):
            series += 1
            name, value = line.rsplit(" ", 1)
            sums[name.split("{")[0]] += float(value)
            if 'reason="late"' in name:
                sums["late"] += float(value)
    return sums, series


def slope(points):
    """Returns the slope of the line with the least squares, and its standard error."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    rate = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    residuals = sum((y - mean_y - rate * (x - mean_x)) ** 2 for x, y in points)
    return rate, math.sqrt(residuals / max(n - 2, 1) / spread)


def take_sample(daemon, minutes, turn):
    page, seconds = request(daemon.address, "/metrics")
    sums, series = samples_of(page)
    finished = sums["llmload_requests_total"] + sums["llmload_requests_aborted_total"]
    started = sums["llmload_requests_started_total"]
    arrivals = started + sums["llmload_arrivals_dropped_total"]
    is_balanced = started == finished + sums["llmload_requests_in_flight"]
    if not is_balanced or sums["llmload_arrivals_total"] != arrivals:
        sys.exit(f"the ledger does not balance:\n{page}")
    # Only root can list /proc/PID/fd, because llmload does not let others read its memory.
    if not sums["process_open_fds"]:
        sys.exit("llmload does not report its open files; the soak test needs Linux")
    return {
        "minutes": minutes,
        "reloads": turn,
        "memory_kib": daemon.memory_kib("VmRSS"),
        "heap_kib": daemon.memory_kib("RssAnon"),
        "open_files": int(sums["process_open_fds"]),
        "threads": daemon.threads(),
        "series": series,
        "in_flight": sums["llmload_requests_in_flight"],
        "arrivals": sums["llmload_arrivals_total"],
        "failures": sums["llmload_request_failures_total"],
        "dropped": sums["llmload_arrivals_dropped_total"],
        "late": sums["late"],
        "scrape_ms": seconds * 1000,
        "is_valid": sums["llmload_measurement_valid"] == 1,
    }


def soak(options, folder):
    percents = [f"{name}={percent}%" for name, percent in FAULTS.items()]
    faults = [word for percent in percents for word in ("--fault", percent)]
    simulator = Process("simulator on http://", folder / "simulator.log",
        options.binary, "simulator", "--web.listen-address", "127.0.0.1:0", "--slots", 512,
        "--decode-tokens-per-second", 100, "--full-load-speed", "100%",
        "--prefill-tokens-per-second", 20000, *faults)
    file = folder / "llmload.yml"
    write = lambda turn: file.write_text(configuration(options.rate, simulator.address, turn))
    write(0)
    daemon = None
    try:
        daemon = Process("/metrics on http://", folder / "daemon.log",
            options.binary, "daemon", "--config.file", file,
            "--web.listen-address", "127.0.0.1:0")
        return watch(options, daemon, write)
    finally:
        simulator.child.kill()
        if daemon and daemon.child.poll() is None:
            daemon.child.kill()


def watch(options, daemon, write):
    begun, samples, turn = time.monotonic(), [], 0
    elapsed = lambda: time.monotonic() - begun
    print("minute   RSS MiB   open files   threads   series   in flight   arrivals   failures   "
          "dropped   scrape ms")
    while elapsed() < options.minutes * 60:
        if daemon.child.poll() is not None:
            sys.exit(f"the daemon ended:\n{daemon.log.read_text()[-3000:]}")
        if elapsed() >= RELOAD * (turn + 1) - INTERVAL / 2:
            turn += 1
            write(turn)
            request(daemon.address, "/-/reload", "POST")
        if elapsed() >= INTERVAL * (len(samples) + 1):
            samples.append(take_sample(daemon, elapsed() / 60, turn))
            if len(samples) % max(1, int(options.minutes * 60 / INTERVAL / 12)) == 0:
                print_row(samples[-1])
        time.sleep(0.2)
    daemon.child.send_signal(signal.SIGTERM)
    code = daemon.child.wait(timeout=60)
    if code != 0:
        sys.exit(f"the daemon ended with the exit code {code}:\n{daemon.log.read_text()[-3000:]}")
    return samples


def print_row(sample):
    print(f"{sample['minutes']:6.1f} {sample['memory_kib'] / 1024:9.1f} "
          f"{sample['open_files']:12} {sample['threads']:9} {sample['series']:8} "
          f"{sample['in_flight']:11.0f} {sample['arrivals']:10.0f} {sample['failures']:10.0f} "
          f"{sample['dropped']:9.0f} {sample['scrape_ms']:11.1f}", flush=True)


def judge(samples):
    """Returns the values of the verdict, and the sentences about everything that grew."""
    warm = [sample for sample in samples if sample["minutes"] >= WARM_UP]
    if len(warm) < 30:
        sys.exit(f"there are only {len(warm)} samples after the warm-up of {WARM_UP} minutes; "
                 "use a longer --minutes")
    third = len(warm) // 3
    first, last = warm[:third], warm[-third:]
    line = lambda name: slope([(sample["minutes"], sample[name]) for sample in warm])
    (rate, error), (heap_rate, heap_error) = line("memory_kib"), line("heap_kib")
    highest = lambda part, name: max(sample[name] for sample in part)
    # A reload changes the number of series, so samples with the same configuration are compared.
    series = lambda part, rest: max(
        (sample["series"] for sample in part if sample["reloads"] % 2 == rest), default=0)
    values = {
        "memory_kib_per_minute": rate,
        "memory_kib_per_minute_error": error,
        "heap_kib_per_minute": heap_rate,
        "heap_kib_per_minute_error": heap_error,
        "memory_kib_highest": highest(samples, "memory_kib"),
        "open_files": [highest(first, "open_files"), highest(last, "open_files")],
        "threads": [highest(first, "threads"), highest(last, "threads")],
        "series": [[series(part, rest) for rest in (0, 1)] for part in (first, last)],
        "arrivals": samples[-1]["arrivals"],
        "failures": samples[-1]["failures"],
        "dropped": samples[-1]["dropped"],
        "reloads": samples[-1]["reloads"],
        "scrape_ms_highest": highest(samples, "scrape_ms"),
        "minutes_invalid": sum(not sample["is_valid"] for sample in samples) * INTERVAL / 60,
    }
    grown = []
    # The kernel can remove pages of the binary from the memory, which would hide a growing heap.
    for name, slope_of_it in (("the memory", rate), ("the heap", heap_rate)):
        if slope_of_it > SLOPE_LIMIT:
            grown.append(f"{name} grows by {slope_of_it:.1f} KiB/min; "
                         f"the limit is {SLOPE_LIMIT} KiB/min")
    for name, spare in (("open_files", SPARE_FILES), ("threads", 0)):
        before, after = values[name]
        if after > before + spare:
            grown.append(f"{name} grew from {before} to {after}")
    if any(after > before + SPARE_SERIES for before, after in zip(*values["series"])):
        before, after = values["series"]
        grown.append(f"the number of series grew from {before} to {after}")
    return values, grown


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=int, default=200, help="streams per second")
    parser.add_argument("--json", type=pathlib.Path, default=pathlib.Path("target/soak.json"))
    parser.add_argument("binary", nargs="?", default="target/release/llmload")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples = soak(options, pathlib.Path(folder))
    values, grown = judge(samples)
    results = {"rate": options.rate, "verdict": values, "samples": samples}
    options.json.write_text(json.dumps(results, indent=1))
    print(json.dumps(values, indent=1))
    slopes = ", ".join(
        f"{name} {values[key]:+.1f} ± {values[key + '_error']:.1f} KiB/min"
        for name, key in (("RSS", "memory_kib_per_minute"), ("heap", "heap_kib_per_minute")))
    print("\n".join(grown) if grown else f"nothing grew: {slopes}")
    sys.exit(1 if grown else 0)


if __name__ == "__main__":
    main()
