//! Runs the daemon like a sidecar of a model server: as user 65532, without capabilities, with a
//! read-only root folder, and in the network of the server. A real Prometheus scrapes it from
//! another machine.
//!
//! Each machine is a network namespace, which ends with its processes. A virtual cable connects the
//! two. Without root, the test creates the namespaces in a user namespace.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use crate::binary::{TEST_TIMEOUT, pause};
use crate::deploy::{container, texts};

/// An address of TEST-NET-1, which is reserved for documentation.
const POD: &str = "192.0.2.1";
const SCRAPER: &str = "192.0.2.2";

/// A ramp to 40/s in three seconds: sixty arrivals.
const RAMP: &str = "
targets:
  server: {base_url: 'http://127.0.0.1:8000/v1', api_key_file: /run/secrets/llmload/api-key}
scenarios:
  ramp:
    target: server
    request: {max_tokens: 4}
    repeat: 1
    max_lag: 30s
    schedule: [{ramp: {from: 0/s, to: 40/s}, for: 3s}]
";
const ARRIVALS: f64 = 60.0;

const SCRAPES: &str = "
scrape_configs:
  - {job_name: llmload, scrape_interval: 1s, static_configs: [{targets: ['192.0.2.1:9899']}]}
";

/// A child process. Dropping it kills the process.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

struct Machine(Running);

impl Machine {
    fn new(mut unshare: Command) -> Machine {
        let alone = ["sh", "-c", "echo up && exec sleep infinity"];
        let mut child = unshare
            .args(alone)
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare must be installed; it is in util-linux");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "up\n", "unshare created no namespace");
        Machine(Running(child))
    }

    /// Returns a command that enters the namespace. The caller appends the program to run there.
    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.0.0.id().to_string(), "--net", "--mount"]);
        if !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command
    }

    fn run(&self, command: &str) -> String {
        output_of(self.enter().args(command.split(' ')))
    }
}

fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// Creates two machines with a cable between them.
fn machines() -> (Machine, Machine) {
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount"]);
    if !is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let pod = Machine::new(unshare);
    let mut unshare = pod.enter();
    unshare.args(["unshare", "--net"]);
    let scraper = Machine::new(unshare);
    let peer = scraper.0.0.id();
    pod.run(&format!("ip link add name cable type veth peer name cable netns {peer}"));
    for (machine, address) in [(&pod, POD), (&scraper, SCRAPER)] {
        machine.run(&format!("ip address add {address}/30 dev cable"));
        machine.run("ip link set cable up");
        machine.run("ip link set lo up");
    }
    (pod, scraper)
}

/// The root folder of the daemon, mounted read-only.
struct Image {
    folder: tempfile::TempDir,
}

impl Image {
    fn new(pod: &Machine, yaml: &str) -> Image {
        let image = Image { folder: tempfile::tempdir().unwrap() };
        let root = image.folder.path();
        std::fs::set_permissions(root, PermissionsExt::from_mode(0o755)).unwrap();
        image.install(Path::new(env!("CARGO_BIN_EXE_llmload")), "llmload");
        // This program runs after the change of the root folder, so it must be inside the new one.
        image.install(&found("setpriv"), "setpriv");
        image.write("etc/llmload/llmload.yml", yaml);
        image.write("run/secrets/llmload/api-key", "sk-from-a-file\n");
        std::fs::create_dir(root.join("proc")).unwrap();
        let root = root.display();
        pod.run(&format!("mount --bind {root} {root}"));
        pod.run(&format!("mount --rbind /proc {root}/proc"));
        pod.run(&format!("mount -o remount,bind,ro {root}"));
        image
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Copies a program and its shared libraries.
    fn install(&self, program: &Path, name: &str) {
        std::fs::copy(program, self.folder.path().join(name)).unwrap();
        for library in output_of(Command::new("ldd").arg(program)).split_whitespace() {
            if !library.starts_with('/') {
                continue;
            }
            let copy = self.folder.path().join(library.trim_start_matches('/'));
            std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
            std::fs::copy(library, copy).unwrap();
        }
    }

    /// Returns a command that runs llmload in the image without privileges.
    fn llmload(&self, pod: &Machine) -> Command {
        let mut command = pod.enter();
        let root = self.folder.path().display();
        if is_root() {
            command.args([
                "chroot",
                &root.to_string(),
                "/setpriv",
                "--reuid=65532",
                "--regid=65532",
            ]);
            command.args([
                "--clear-groups",
                "--inh-caps=-all",
                "--bounding-set=-all",
                "--no-new-privs",
            ]);
        } else {
            command.args([
                "setpriv",
                "--no-new-privs",
                "unshare",
                "--user",
                &format!("--root={root}"),
            ]);
            command.args(["--map-user=65532", "--map-group=65532"]);
        }
        command.arg("/llmload");
        command
    }
}

fn found(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(program));
    places.find(|place| place.is_file()).unwrap_or_else(|| panic!("{program} is not installed"))
}

/// A Prometheus on the other machine.
struct Prometheus<'a> {
    scraper: &'a Machine,
    _server: Running,
    _folder: tempfile::TempDir,
}

impl Prometheus<'_> {
    fn start(scraper: &Machine) -> Prometheus<'_> {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("prometheus.yml");
        std::fs::write(&config, SCRAPES).unwrap();
        let server = scraper
            .enter()
            .args(["prometheus", "--web.listen-address=127.0.0.1:9090"])
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Prometheus { scraper, _server: Running(server), _folder: folder }
    }

    fn query(&self, expression: &str) -> Option<f64> {
        let mut promtool = self.scraper.enter();
        promtool.args(["promtool", "query", "instant", "http://127.0.0.1:9090", expression]);
        let output = promtool.output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let (_, value) = stdout.lines().next()?.rsplit_once("=> ")?;
        value.split(' ').next()?.parse().ok()
    }

    fn until(&self, expression: &str, enough: f64, daemon: &mut Daemon) {
        let timeout = TEST_TIMEOUT + Duration::from_secs_f64(absence());
        daemon.until(timeout, expression, || {
            self.query(expression).is_some_and(|value| value >= enough)
        });
    }
}

struct Daemon {
    process: Running,
    folder: tempfile::TempDir,
}

impl Daemon {
    fn start(image: &Image, pod: &Machine) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = image.llmload(pod);
        let process =
            Running(command.args(texts(&container()["args"])).stderr(log).spawn().unwrap());
        Daemon { process, folder }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Returns the content of a file in `/proc/PID` of the daemon.
    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.process.0.id())).unwrap()
    }

    fn until(&mut self, timeout: Duration, what: &str, mut is_true: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !is_true() {
            let ended = self.process.0.try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended early ({ended:?}):\n{}", self.log());
            let is_in_time = begun.elapsed() < timeout;
            assert!(is_in_time, "did not become true within {timeout:?}: {what}\n{}", self.log());
            pause();
        }
    }
}

/// The number of scrapes, one per second, before the server starts.
fn absence() -> f64 {
    std::env::var("LLMLOAD_TEST_ABSENCE").map_or(5.0, |seconds| seconds.parse().unwrap())
}

#[test]
fn a_sidecar_of_a_late_server_is_healthy_and_sends_the_complete_ramp_without_failures() {
    let (pod, scraper) = machines();
    let image = Image::new(&pod, RAMP);
    let mut daemon = Daemon::start(&image, &pod);
    for page in ["healthy", "ready"] {
        // Checks the health from the other machine, like a kubelet, and from inside, like Docker.
        let outside = format!("http://{POD}:9899/-/{page}");
        daemon.until(TEST_TIMEOUT, &outside, || {
            let health =
                scraper.enter().args([env!("CARGO_BIN_EXE_llmload"), "health", &outside]).output();
            health.unwrap().status.success()
        });
        output_of(image.llmload(&pod).args(["health", &format!("http://127.0.0.1:9899/-/{page}")]));
    }
    let prometheus = Prometheus::start(&scraper);
    prometheus.until("sum(count_over_time(up[1h]))", absence(), &mut daemon);
    prometheus.until("count(llmload_target_ready == 0)", 1.0, &mut daemon);
    assert_eq!(prometheus.query("sum(llmload_arrivals_total)").unwrap_or_default(), 0.0);

    let status = daemon.file("status");
    let has = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    };
    for capabilities in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(has(capabilities), "0000000000000000", "{status}");
    }
    assert_eq!(has("NoNewPrivs"), "1");
    if is_root() {
        assert_eq!(has("Uid"), "65532\t65532\t65532\t65532");
    }
    let mounts = daemon.file("mountinfo");
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(root.split(' ').nth(5).unwrap().split(',').any(|option| option == "ro"), "{root}");

    let server = image.llmload(&pod).arg("simulator").stderr(Stdio::null()).spawn().unwrap();
    let _server = Running(server);
    prometheus.until("sum(llmload_requests_total)", ARRIVALS, &mut daemon);
    let log = daemon.log();
    for (expression, value) in [
        ("sum(llmload_arrivals_total)", ARRIVALS),
        ("sum(llmload_request_duration_seconds_count)", ARRIVALS),
        ("sum(llmload_request_failures_total)", 0.0),
        ("sum(llmload_arrivals_dropped_total)", 0.0),
        ("min(min_over_time(up[1h]))", 1.0),
        ("sum(changes(process_start_time_seconds[1h]))", 0.0),
    ] {
        assert_eq!(prometheus.query(expression), Some(value), "{expression}\n{log}");
    }
    assert!(!log.contains("sk-from-a-file"), "{log}");
    // nsenter and chroot become the program that they run, so this is the process of llmload.
    output_of(Command::new("kill").args(["-s", "TERM", &daemon.process.0.id().to_string()]));
    assert_eq!(daemon.process.0.wait().unwrap().code(), Some(0), "{log}");
}
