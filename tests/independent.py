#!/usr/bin/env python3
"""Compares llmload with two OpenAI-compatible servers by other authors: its counts and times with the
configuration and the journal of each server. Installs the servers under target/independent.

    tests/independent.py [target/debug/llmload]

prints one row per check and exits with 1 if one disagrees. Times are checked from below only: a client
cannot see less than the configured delay of the server.
"""
import collections, json, os, pathlib, re, socket, subprocess, sys, time, urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOME = ROOT / "target/independent"
LLMOCK = HOME / "venv/bin/llmock"
AIMOCK = HOME / "node_modules/.bin/llmock"
TIMEOUT = 120


def run_installer(*command):
    try:
        subprocess.run([str(word) for word in command], check=True, timeout=300)
    except FileNotFoundError:
        sys.exit(f"{command[0]} is not installed; install python3 with venv, and npm")
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        sys.exit(f"{error}; read the output above, and retry when the registry responds")


def install():
    HOME.mkdir(parents=True, exist_ok=True)
    if not LLMOCK.exists():
        run_installer(sys.executable, "-m", "venv", HOME / "venv")
        run_installer(HOME / "venv/bin/pip", "install", "-q", "--disable-pip-version-check", "llmock==0.2.2")
    if not AIMOCK.exists():
        run_installer("npm", "install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", HOME,
              "@copilotkit/aimock@1.43.0")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(url):
    # Without a proxy, even if the environment names one.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(url, timeout=5).read().decode()


def wait_for(condition, process):
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if (found := condition()) is not None:
                return found
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit(f"{process.args[0]}: the condition was not met within {TIMEOUT} s")


def start(command):
    return subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Page:
    """A scrape of llmload: the samples of /metrics, summed over their labels."""

    def __init__(self, text):
        self.rows = re.findall(r'^llmload_(\w+)\{(.*)\} (\S+)$', text, re.M)

    def sum(self, name):
        return sum(float(value) for known, _, value in self.rows if known == name)

    def mean(self, name):
        return self.sum(name + "_sum") / max(1, self.sum(name + "_count"))

    def failures(self):
        reasons = collections.Counter()
        for name, labels, value in self.rows:
            if name == "request_failures_total" and float(value):
                reasons[re.search(r'reason="(\w+)"', labels)[1]] += int(float(value))
        return dict(reasons)

    def finished(self):
        return self.sum("requests_total")


def load(llmload, port, phase, api, root):
    """Runs one phase; returns the page when all its requests have finished."""
    config, own = HOME / "llmload.yml", free_port()
    target = {"base_url": f"http://127.0.0.1:{port}{root}", "model": "gpt-4o", "api": api}
    request = {} if api == "embeddings" else {"max_tokens": 64}
    config.write_text(json.dumps({
        "targets": {"server": target},
        "scenarios": {"s": {"target": "server", "start": "now", "repeat": 1, "prompts": ["Name a colour, please."],
                            "request": request, "schedule": [phase]}}}))
    daemon = start([llmload, "--config.file", config, "--web.listen-address", f"127.0.0.1:{own}"])
    expected = phase["requests"]

    def done():
        page = Page(get(f"http://127.0.0.1:{own}/metrics"))
        return page if page.finished() >= expected else None
    try:
        return wait_for(done, daemon)
    finally:
        daemon.terminate()
        daemon.wait()


def case(llmload, name, server, health_path, phase, checks, api="chat", root="/v1"):
    port = free_port()
    process = start([*server, "--port", port])
    try:
        wait_for(lambda: get(f"http://127.0.0.1:{port}{health_path}"), process)
        page = load(llmload, port, phase, api, root)
        journal = json.loads(get(f"http://127.0.0.1:{port}/_llmock/requests"))["requests"] if server[0] == LLMOCK else []
    finally:
        process.terminate()
        process.wait()
    wrong = []
    for what, seen, expected, holds in checks(page, [row for row in journal if row["method"] == "POST"]):
        if not holds:
            wrong.append(what)
        print(f"| {name} | {what} | {expected} | {seen} | {'yes' if holds else 'NO'} |", flush=True)
    return wrong


def same(what, seen, expected):
    return (what, seen, expected, seen == expected)


def at_least(what, seconds, minimum):
    # The timers of Node round down to the millisecond.
    return (what, f"{seconds * 1e3:.1f} ms", f"≥ {minimum * 1e3:.0f} ms", seconds >= minimum - 0.002)


def fixture(name, response, **more):
    path = HOME / f"{name}.json"
    path.write_text(json.dumps({"fixtures": [{"match": {"userMessage": "colour"}, "response": response, **more}]}))
    return [AIMOCK, "--log-level", "silent", "--fixtures", path]


def journal_checks(page, rows):
    """The failure class of each response, derived from the journal of the server."""
    classes = {"disconnect": "truncated", "truncate": "incomplete", "malformed": "bad_frame",
               503: "overloaded", 429: "rate_limited", 400: "http_4xx"}
    failed = collections.Counter()
    # Only usage and [DONE] follow the finish reason: a stream that ends after it is complete.
    complete = max((row["chunks_sent"] for row in rows), default=0) - 2
    for row in rows:
        kind, _, at = (row["fault"] or "").split(":")[-1].partition("@")
        kind = row["status"] if row["status"] >= 400 else kind
        if kind and not (kind in ("disconnect", "truncate") and int(at) >= complete):
            failed[classes.get(kind, str(kind))] += 1
    good = len(rows) - sum(failed.values())
    return [same("requests", int(page.finished()), len(rows)),
            same("failures", dict(sorted(page.failures().items())), dict(sorted(failed.items()))),
            same("successes", int(page.sum("request_duration_seconds_count")), good)]


def main():
    llmload = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/debug/llmload").resolve()
    if not llmload.exists():
        sys.exit(f"{llmload} does not exist; build it with `cargo build`, or pass another path")
    install()
    phase = lambda requests: {"concurrency": 6, "requests": requests}
    text, usage = "abcd " * 20, {"prompt_tokens": 37, "completion_tokens": 20, "total_tokens": 57}
    paced = {"chunkSize": 5, "streamingProfile": {"ttft": 300, "tps": 20}}
    ok = {"content": text, "usage": usage}
    wrong = []
    print("| server, case | figure | expected | llmload | agree |\n|---|---|---|---|---|")
    wrong += case(llmload, "aimock, paced", fixture("paced", ok, **paced), "/health", phase(24), lambda page, _: [
        same("failures", page.failures(), {}),
        same("output tokens", int(page.sum("output_tokens_total")), 24 * 20),
        same("input tokens", int(page.sum("input_tokens_total")), 24 * 37),
        same("chunks", int(page.sum("output_chunks_total")), 24 * 20),
        # The role delta arrives after `ttft`, the first text one interval later.
        at_least("mean TTFT", page.mean("time_to_first_token_seconds"), 0.350),
        at_least("mean TPOT", page.mean("time_per_output_token_seconds"), 0.050)])
    wrong += case(llmload, "aimock, cut after 5 chunks", fixture("cut", ok, truncateAfterChunks=5, **paced), "/health",
                  phase(12), lambda page, _: [same("failures", page.failures(), {"truncated": 12})])
    error = {"error": {"message": "slow down", "type": "rate_limit_error"}, "status": 429, "retryAfter": 7}
    wrong += case(llmload, "aimock, 429", fixture("limited", error), "/health", phase(12), lambda page, _: [
        same("failures", page.failures(), {"rate_limited": 12}),
        same("Retry-After", page.sum("retry_after_seconds"), 7.0)])
    llmock = [LLMOCK, "serve", "--response-style", "static", "--log-level", "error"]
    wrong += case(llmload, "llmock, 200 ms, then 20 ms a chunk", [*llmock, "--latency-ms", "200", "--stream-chunk-delay-ms", "20"],
                  "/health", phase(24), lambda page, rows: journal_checks(page, rows) + [
        # Each response has four chunks without text: role, finish reason, usage, [DONE].
        same("chunks", int(page.sum("output_chunks_total")), sum(row["chunks_sent"] - 4 for row in rows)),
        at_least("mean TTFT", page.mean("time_to_first_token_seconds"), 0.220)])
    faults = [word for kind in ("disconnect", "truncate", "malformed") for word in ("--stream-fault", f"{kind}=0.25")]
    wrong += case(llmload, "llmock, broken streams", [*llmock, *faults], "/health", phase(40), journal_checks)
    errors = [word for rate in ("503=0.3", "429=0.2", "400=0.2") for word in ("--error-rate", rate)]
    wrong += case(llmload, "llmock, error statuses", [*llmock, *errors], "/health", phase(40), journal_checks)
    for api in ("responses", "messages"):
        wrong += case(llmload, f"aimock, paced, {api}", fixture("paced", ok, **paced), "/health", phase(24), lambda page, _: [
            same("failures", page.failures(), {}),
            same("output tokens", int(page.sum("output_tokens_total")), 24 * 20),
            same("input tokens", int(page.sum("input_tokens_total")), 24 * 37),
            same("chunks", int(page.sum("output_chunks_total")), 24 * 20),
            at_least("mean TTFT", page.mean("time_to_first_token_seconds"), 0.300),
            at_least("mean TPOT", page.mean("time_per_output_token_seconds"), 0.050)], api)
        wrong += case(llmload, f"aimock, cut after 5 chunks, {api}", fixture("cut", ok, truncateAfterChunks=5, **paced),
                      "/health", phase(12), lambda page, _: [same("failures", page.failures(), {"truncated": 12})], api)
        # The Messages API of llmock has its own root.
        root = "/anthropic/v1" if api == "messages" else "/v1"
        wrong += case(llmload, f"llmock, error statuses, {api}", [*llmock, *errors], "/health", phase(40), journal_checks, api, root)
    wrong += case(llmload, "llmock, embeddings", llmock, "/health", phase(24), lambda page, rows: [
        same("requests", int(page.finished()), len(rows)),
        same("failures", page.failures(), {}),
        same("output tokens", int(page.sum("output_tokens_total")), 0),
        same("first tokens", int(page.sum("time_to_first_token_seconds_count")), 0),
        same("requests with input tokens", int(page.sum("request_input_tokens_count")), 24)], "embeddings")
    wrong += case(llmload, "llmock, error statuses, embeddings", [*llmock, *errors], "/health", phase(40), journal_checks, "embeddings")
    sys.exit(f"disagreement: {wrong}" if wrong else 0)


main()
