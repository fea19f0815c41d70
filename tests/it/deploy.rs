//! Checks that the Dockerfile, the compose file and the manifests fit together, and fit the options
//! of the binary and the files of the repository.
//!
//! `UPDATE_EXPECTED=1 cargo test --test it deploy` writes the generated files.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_yaml::{Mapping, Value};

use crate::binary::llmload;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    let mut value: Value =
        serde_yaml::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    value.apply_merge().unwrap();
    value
}

/// Returns the files of a folder whose names end with `ending`, sorted.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let entries =
        std::fs::read_dir(repository().join(folder)).unwrap_or_else(|e| panic!("{folder}: {e}"));
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(ending)).collect();
    names.sort();
    assert!(!names.is_empty(), "{folder} has no {ending} file");
    names
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value:?}"))
}

pub fn texts(value: &Value) -> Vec<&str> {
    let Some(values) = value.as_sequence() else { return Vec::new() };
    values.iter().map(text).collect()
}

fn map(value: &Value) -> &Mapping {
    value.as_mapping().unwrap_or_else(|| panic!("no map: {value:?}"))
}

/// Replaces each `${NAME:-default}` by its default.
fn filled(text: &str) -> String {
    let variable = regex_lite::Regex::new(r"\$\{[A-Z_]+:-([^}]*)\}").unwrap();
    variable.replace_all(text, "$1").into_owned()
}

/// Splits `SOURCE:TARGET:ro`. The last value is true for a read-only mount.
fn mount(text: &str) -> (String, String, bool) {
    let filled = filled(text);
    let parts: Vec<_> = filled.split(':').collect();
    (parts[0].to_owned(), parts[1].to_owned(), parts.get(2) == Some(&"ro"))
}

fn assert_pinned(image: &str) {
    let (_, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{image}: no tag"));
    assert!(tag != "latest" && !tag.contains('/'), "{image}");
}

// ---- Compose ---------------------------------------------------------------------------------

#[test]
fn every_compose_mount_exists_and_every_image_is_pinned() {
    let compose = yaml("docker-compose.yml");
    let volumes: Vec<_> = map(&compose["volumes"]).keys().map(text).collect();
    let mut ports = BTreeSet::new();
    for (name, service) in map(&compose["services"]) {
        let name = text(name);
        let image = text(&service["image"]);
        assert_pinned(image);
        if service["build"].is_mapping() {
            assert_eq!(image, format!("llmload:{VERSION}"));
            assert_eq!(service["read_only"], Value::Bool(true), "{name}");
        }
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(texts(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        assert!(texts(&service["healthcheck"]["test"]).len() > 1, "{name}");
        for port in texts(&service["ports"]) {
            assert!(
                port.starts_with("${BIND_ADDRESS:-127.0.0.1}:${"),
                "{name}: {port} is not a variable"
            );
            assert!(ports.insert(filled(port)), "{name}: {port} is taken");
        }
        for volume in texts(&service["volumes"]) {
            let (source, _, read_only) = mount(volume);
            if source.starts_with("./") {
                assert!(
                    repository().join(&source).exists(),
                    "{name} mounts {source}, which is not there"
                );
                assert!(read_only, "{name}: {volume}");
            } else {
                assert!(volumes.contains(&source.as_str()), "{name}: {volume}");
            }
        }
    }
    let own = &compose["services"]["llmload"];
    assert_eq!(texts(&own["extra_hosts"]), ["host.docker.internal:host-gateway"]);
}

#[test]
fn the_services_of_compose_run_as_their_commands_say() {
    let compose = yaml("docker-compose.yml");
    let own = &compose["services"]["llmload"];
    let target = filled(text(&own["environment"]["TARGET_URL"]));
    let simulator = &compose["services"]["simulator"];
    let listen = ":8000";
    assert_eq!(target, format!("http://simulator{listen}/v1"));
    assert!(text(&simulator["ports"][0]).ends_with(listen));

    let mut args: Vec<_> = texts(&simulator["command"]);
    let place =
        args.iter().position(|arg| *arg == format!("--web.listen-address={listen}")).unwrap();
    args[place] = "--web.listen-address=127.0.0.1:0";
    let mut child = Command::new(env!("CARGO_BIN_EXE_llmload"))
        .args(args)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    log.read_line(&mut line).unwrap();
    let served = line.trim().split_once("http://").and_then(|(_, rest)| rest.strip_suffix("/v1"));
    let served = served.map(|address| {
        let check = texts(&simulator["healthcheck"]["test"]);
        let asked = check.last().unwrap().replace("127.0.0.1:8000", address);
        let target = format!("http://{address}/v1");
        (llmload(&["health", &asked]), target)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let (health, target) = served.unwrap_or_else(|| panic!("{line}"));
    assert_eq!(health, (Some(0), String::new(), String::new()));

    let (config, _, _) = mount(text(&own["volumes"][0]));
    let checked = Command::new(env!("CARGO_BIN_EXE_llmload"))
        .args(["check", "llmload.yml"])
        .current_dir(repository().join(config))
        .env("TARGET_URL", &target)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && words.contains(&target), "{words}");
    assert_eq!(String::from_utf8_lossy(&checked.stderr), "");
    let example = repository().join("deploy/example/llmload.yml");
    assert_eq!(llmload(&["check", example.to_str().unwrap()]).0, Some(0));
}

#[test]
fn grafana_and_prometheus_find_each_other_and_their_files() {
    let compose = yaml("docker-compose.yml");
    let services = &compose["services"];
    let prometheus = yaml("grafana/prometheus.yml");
    for job in prometheus["scrape_configs"].as_sequence().unwrap() {
        let target = text(&job["static_configs"][0]["targets"][0]);
        let (service, port) = target.split_once(':').unwrap();
        assert_eq!(text(&job["job_name"]), service);
        assert!(text(&services[service]["ports"][0]).ends_with(&format!(":{port}")), "{target}");
    }
    // promtool finds the rules here, because their path relative to prometheus.yml is the same as
    // in the container.
    let mut promtool = Command::new("promtool");
    let checked =
        checked_in(promtool.args(["check", "config", "grafana/prometheus.yml"]), repository());
    assert!(
        checked.contains("rule files found") && !checked.contains(" 0 rule files"),
        "{checked}"
    );

    let grafana = &services["grafana"];
    let mounts: Vec<_> = texts(&grafana["volumes"]).into_iter().map(mount).collect();
    let inside = |path: &str| {
        let target = mounts.iter().find(|(from, ..)| from.strip_prefix("./") == Some(path));
        target.unwrap_or_else(|| panic!("Grafana has no {path}")).1.clone()
    };
    let folder = inside("grafana/dashboards");
    for part in ["datasources", "dashboards"] {
        let path = format!("grafana/provisioning/{part}");
        assert_eq!(inside(&path), format!("/etc/grafana/provisioning/{part}"));
    }
    for name in files("grafana/provisioning/dashboards", ".yml") {
        let provider = yaml(&format!("grafana/provisioning/dashboards/{name}"));
        assert_eq!(text(&provider["providers"][0]["options"]["path"]), folder);
    }
    for name in files("grafana/provisioning/datasources", ".yml") {
        let source = &yaml(&format!("grafana/provisioning/datasources/{name}"))["datasources"][0];
        assert_eq!(
            (text(&source["uid"]), text(&source["url"])),
            ("prometheus", "http://prometheus:9090")
        );
        assert_eq!(source["jsonData"]["timeInterval"], prometheus["global"]["scrape_interval"]);
    }
    let home = text(&grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]);
    let home = home.strip_prefix(&folder).unwrap_or_else(|| panic!("{home} is not in {folder}"));
    serde_json::from_str::<serde_json::Value>(&read(&format!("grafana/dashboards{home}"))).unwrap();
}

fn checked_in(command: &mut Command, folder: &Path) -> String {
    let output = command.current_dir(folder).output().unwrap();
    let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{words}");
    words
}

// ---- The image -------------------------------------------------------------------------------

#[test]
fn the_image_uses_the_pinned_compiler_and_runs_as_user_65532() {
    let dockerfile = read("Dockerfile");
    let lines = |word: &str| -> Vec<&str> {
        let lines = dockerfile.lines().filter_map(|line| line.strip_prefix(word));
        lines.map(str::trim).collect()
    };
    let toolchain = read("rust-toolchain.toml");
    let (_, channel) = toolchain.split_once("channel = \"").unwrap();
    let channel = channel.split('"').next().unwrap();
    let from = lines("FROM ");
    assert_eq!(from[0], format!("rust:{channel}-bookworm AS build"));
    for image in from {
        let name = image.split(' ').next().unwrap();
        if name != "scratch" {
            assert_pinned(name);
        }
    }
    assert_eq!(lines("USER "), ["65532:65532"]);
    let entry = lines("ENTRYPOINT ")[0];
    let check = lines("HEALTHCHECK ")[0].split_once("CMD ").unwrap().1;
    assert_eq!(check.replace(", \"health\"", ""), entry);
    assert!(dockerfile.contains(&format!("--tag llmload:{VERSION} ")));
    assert!(dockerfile.contains(&format!("ARG VERSION={VERSION}\n")));
    // The layer of the dependencies has an empty file for each target of the manifest.
    let (dependencies, _) = dockerfile.split_once("COPY . .").unwrap();
    let manifest = read("Cargo.toml");
    let benches: Vec<&str> = manifest
        .split("[[bench]]\nname = \"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(!benches.is_empty());
    for bench in benches {
        assert!(dependencies.contains(&format!("benches/{bench}.rs")), "{bench}");
    }
}

// ---- Packages --------------------------------------------------------------------------------

#[test]
fn the_systemd_unit_starts_llmload_with_options_that_exist() {
    let unit = read("packaging/systemd/llmload.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let (program, options) = start.split_once(' ').unwrap();
    assert_eq!(program, "/usr/local/bin/llmload");
    let options: Vec<&str> = options.split(' ').collect();
    assert!(options.contains(&"--config.file=/etc/llmload/llmload.yml"));
    // The binary must report only the wrong option that this test adds.
    let (code, _, err) = llmload(&[&options[..], &["--log.format=none"]].concat());
    assert!(code == Some(2) && err.contains("'none'"), "{err}");
}

#[test]
fn the_workflow_of_a_release_runs_scripts_that_exist_and_uses_the_pinned_compiler() {
    let workflow = read(".github/workflows/release.yml");
    let toolchain = read("rust-toolchain.toml");
    let channel = toolchain.split_once("channel = \"").unwrap().1.split('"').next().unwrap();
    assert!(workflow.contains(&format!("container: rust:{channel}-bookworm\n")));
    let scripts: Vec<&str> = workflow
        .lines()
        .filter_map(|line| line.trim().strip_prefix("run: .ci/"))
        .map(|rest| rest.split(' ').next().unwrap())
        .collect();
    assert_eq!(scripts, ["release", "sbom"]);
    for script in scripts {
        read(&format!(".ci/{script}"));
    }
    let release = read(".ci/release");
    for file in ["packaging/systemd/llmload.service", "LICENSE-APACHE", "LICENSE-MIT"] {
        assert!(release.contains(file) && repository().join(file).exists(), "{file}");
    }
}

/// The build needs the manifest and each file of an `include_str!` or `include_bytes!`.
#[test]
fn the_docker_context_contains_every_file_of_the_build() {
    let ignore = read(".dockerignore");
    let mut lines = ignore.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"));
    let kept: Vec<PathBuf> =
        lines.map(|line| PathBuf::from(line.strip_prefix('!').unwrap())).collect();
    let sent = tempfile::tempdir().unwrap();
    for path in &kept {
        let target = sent.path().join(path);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(repository().join(path), target).unwrap();
    }
    // Fails if a file that the manifest names is missing.
    let mut cargo = Command::new(env!("CARGO"));
    checked_in(
        cargo.args(["metadata", "--offline", "--no-deps", "--format-version", "1"]),
        sent.path(),
    );

    let included = regex_lite::Regex::new(r#"include_(?:str|bytes)!\("([^"]+)"\)"#).unwrap();
    let mut folders = vec![PathBuf::from("src")];
    let mut found = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(repository().join(&folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            if repository().join(&path).is_dir() {
                folders.push(path);
                continue;
            }
            // The image has no tests.
            if path.ends_with("tests.rs") {
                continue;
            }
            let text = read(path.to_str().unwrap());
            let production = text.split("#[cfg(test)]").next().unwrap();
            for include in included.captures_iter(production) {
                found += 1;
                let file = sent.path().join(&folder).join(&include[1]);
                let folder = sent.path().canonicalize().unwrap();
                let named = normal(&file);
                assert!(
                    kept.iter().any(|kept| named.starts_with(folder.join(kept))) && named.exists(),
                    "{} includes {}, but .dockerignore excludes that file",
                    path.display(),
                    &include[1]
                );
            }
        }
    }
    assert!(found > 0);
}

/// Removes each `..` and the folder before it, without following symbolic links.
fn normal(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        if part == std::path::Component::ParentDir {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts
}

// ---- Kubernetes ------------------------------------------------------------------------------

pub fn container() -> Value {
    yaml("deploy/sidecar/container.yaml")[0]["value"].clone()
}

#[test]
fn the_sidecar_has_no_privileges_and_no_readiness_probe() {
    let container = container();
    let security: Value = serde_yaml::from_str(
        "{runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, readOnlyRootFilesystem: true,
          allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}",
    )
    .unwrap();
    assert_eq!(container["securityContext"], security);
    assert_eq!(text(&container["image"]), format!("llmload:{VERSION}"));
    for probe in ["readinessProbe", "startupProbe", "lifecycle"] {
        assert!(container[probe].is_null(), "with {probe}, llmload could make the pod unready");
    }
    assert_eq!(text(&container["livenessProbe"]["httpGet"]["path"]), "/-/healthy");
    for (kind, what) in [("requests", "cpu"), ("requests", "memory"), ("limits", "memory")] {
        assert!(container["resources"][kind][what].is_string(), "{kind} {what}");
    }
    assert!(
        container["resources"]["limits"]["cpu"].is_null(),
        "a CPU limit would throttle llmload and distort its measurements"
    );
}

#[test]
fn every_file_in_the_arguments_and_the_configuration_of_the_sidecar_is_mounted() {
    let container = container();
    // The binary must report only the wrong option that this test adds.
    let mut args: Vec<_> = texts(&container["args"]);
    args.push("--web.listen-address=nowhere");
    let (code, _, err) = llmload(&args);
    assert!(code == Some(2) && err.contains("'nowhere'"), "{err}");

    let pod = &yaml("deploy/sidecar/pod.yaml")["spec"]["template"];
    let kustomization = yaml("deploy/sidecar/kustomization.yaml");
    let mounted = |at: &str| {
        let mounts = container["volumeMounts"].as_sequence().unwrap();
        let mount = mounts.iter().find(|mount| text(&mount["mountPath"]) == at);
        let mount = mount.unwrap_or_else(|| panic!("nothing is mounted at {at}"));
        assert!(
            mount["subPath"].is_null(),
            "a file mounted with subPath is not updated when its ConfigMap changes"
        );
        let volumes = pod["spec"]["volumes"].as_sequence().unwrap();
        volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap()
    };
    let generated = &yaml("deploy/example/kustomization.yaml")["configMapGenerator"][0];
    assert_eq!(mounted("/etc/llmload")["configMap"]["name"], generated["name"]);
    assert_eq!(texts(&generated["files"]), ["llmload.yml"]);
    assert!(texts(&container["args"]).contains(&"--config.file=/etc/llmload/llmload.yml"));
    assert_eq!(generated["options"]["disableNameSuffixHash"], Value::Bool(true));
    assert_eq!(mounted("/run/secrets/llmload")["secret"]["optional"], Value::Bool(true));
    assert!(read("deploy/example/llmload.yml").contains("api_key_file: /run/secrets/llmload/"));

    let port = &container["ports"][0]["name"];
    assert_eq!(&container["livenessProbe"]["httpGet"]["port"], port);
    let monitor = yaml("deploy/sidecar/podmonitor.yaml");
    assert_eq!(text(&monitor["apiVersion"]), "monitoring.coreos.com/v1");
    assert_eq!(text(&monitor["kind"]), "PodMonitor");
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!(&endpoint["port"], port);
    let job = &yaml("grafana/prometheus.yml")["scrape_configs"][0]["job_name"];
    assert_eq!(text(&endpoint["relabelings"][0]["targetLabel"]), "job");
    assert_eq!(&endpoint["relabelings"][0]["replacement"], job);
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], pod["metadata"]["labels"]);
    // The patches apply to objects with this label.
    let label = &yaml("deploy/example/server.yaml")["metadata"]["labels"]["llmload"];
    for patch in kustomization["patches"].as_sequence().unwrap() {
        assert_eq!(text(&patch["target"]["labelSelector"]), format!("llmload={}", text(label)));
        read(&format!("deploy/sidecar/{}", text(&patch["path"])));
    }
}

/// Checks a pod of deploy/sharded. Returns its container and its labels.
fn shard_pod(template: &Value, folder: &str, shards: u64) -> (Value, Value) {
    let container = template["spec"]["containers"][0].clone();
    assert_eq!(text(&container["image"]), format!("llmload:{VERSION}"));
    assert_eq!(container["securityContext"], self::container()["securityContext"]);
    assert!(container["resources"]["limits"]["cpu"].is_null());
    let env = container["env"].as_sequence().unwrap();
    let count = env.iter().find(|variable| variable["name"] == "LLMLOAD_SHARDS").unwrap();
    assert_eq!(text(&count["value"]), shards.to_string());
    let mut args: Vec<_> = texts(&container["args"]);
    assert!(args.contains(&"--config.file=/etc/llmload/llmload.yml"));
    args.retain(|arg| *arg != "--start-at=$(START_AT)");
    args.push("--web.listen-address=nowhere");
    // The binary must report only the wrong option that this test adds.
    let (code, _, err) = llmload(&args);
    assert!(code == Some(2) && err.contains("'nowhere'"), "{err}");
    let labels = template["metadata"]["labels"].clone();
    let spread = &template["spec"]["topologySpreadConstraints"][0]["labelSelector"];
    assert_eq!(spread["matchLabels"], labels);
    let volumes = template["spec"]["volumes"].as_sequence().unwrap();
    let generated = &yaml(&format!("{folder}/kustomization.yaml"))["configMapGenerator"][0];
    assert_eq!(texts(&generated["files"]), ["llmload.yml"]);
    for mount in container["volumeMounts"].as_sequence().unwrap() {
        assert!(mount["subPath"].is_null());
        let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
        match text(&mount["mountPath"]) {
            "/etc/llmload" => assert_eq!(volume["configMap"]["name"], generated["name"]),
            path => assert_eq!(path, "/run/secrets/llmload"),
        }
    }
    (container, labels)
}

/// Kustomize copies the number of shards into each place, and `deploy/validate` builds the
/// manifests.
#[test]
fn the_shards_of_a_stateful_set_know_their_number() {
    let folder = "deploy/sharded";
    let set = yaml("deploy/sharded/statefulset.yaml");
    let kustomization = yaml("deploy/sharded/kustomization.yaml");
    let shards = kustomization["replicas"][0]["count"].as_u64().unwrap();
    assert_eq!(kustomization["replicas"][0]["name"], set["metadata"]["name"]);
    assert_eq!(set["spec"]["replicas"].as_u64(), Some(shards));
    let (container, labels) = shard_pod(&set["spec"]["template"], folder, shards);
    assert_eq!(set["spec"]["selector"]["matchLabels"], labels);
    let paths = texts(&kustomization["replacements"][0]["targets"][0]["fieldPaths"]);
    assert_eq!(
        paths,
        ["spec.template.spec.containers.[name=llmload].env.[name=LLMLOAD_SHARDS].value"]
    );
    for resource in texts(&kustomization["resources"]) {
        read(&format!("{folder}/{resource}"));
    }
    let service = yaml("deploy/sharded/service.yaml");
    assert_eq!(service["metadata"]["name"], set["spec"]["serviceName"]);
    assert_eq!(service["spec"]["selector"], labels);
    assert_eq!(text(&service["spec"]["clusterIP"]), "None");
    let monitor = yaml("deploy/sharded/podmonitor.yaml");
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], labels);
    let of_sidecar = yaml("deploy/sidecar/podmonitor.yaml");
    assert_eq!(monitor["spec"]["podMetricsEndpoints"], of_sidecar["spec"]["podMetricsEndpoints"]);
    assert_eq!(container["ports"][0]["name"], monitor["spec"]["podMetricsEndpoints"][0]["port"]);
    // The schedule can be divided into this number of shards.
    let config = repository().join(folder).join("llmload.yml");
    for index in 0..shards {
        let shard = format!("{index}/{shards}");
        let (code, _, err) = llmload(&["check", "--shard", &shard, config.to_str().unwrap()]);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{shard}");
    }
}

#[test]
fn the_shards_of_a_job_start_at_the_same_time_and_none_stops_the_others() {
    let job = yaml("deploy/sharded/run/job.yaml");
    let shards = job["spec"]["completions"].as_u64().unwrap();
    assert_eq!(job["spec"]["parallelism"].as_u64(), Some(shards));
    assert_eq!(text(&job["spec"]["completionMode"]), "Indexed");
    assert_eq!(job["spec"]["backoffLimitPerIndex"].as_u64(), Some(0));
    assert_eq!(text(&job["spec"]["template"]["spec"]["restartPolicy"]), "Never");
    let (container, _) = shard_pod(&job["spec"]["template"], "deploy/sharded/run", shards);
    let args = texts(&container["args"]);
    for needed in ["run", "--start-at=$(START_AT)", "--json", "--no-gate"] {
        assert!(args.contains(&needed), "{needed}");
    }
    let env = container["env"].as_sequence().unwrap();
    let start = env.iter().find(|variable| variable["name"] == "START_AT").unwrap();
    let name = text(&start["valueFrom"]["configMapKeyRef"]["name"]);
    let key = text(&start["valueFrom"]["configMapKeyRef"]["key"]);
    let page = read("docs/kubernetes.md");
    let command = format!("kubectl create configmap {name} --from-literal={key}=");
    assert!(page.contains(&command), "{command}");
    let config = repository().join("deploy/sharded/run/llmload.yml");
    let (code, _, err) = llmload(&["check", config.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
}

#[test]
fn the_manifests_for_the_cluster_contain_all_rules_and_dashboards() {
    let mut groups = Vec::new();
    for name in files("grafana/rules", ".yml") {
        let rules = yaml(&format!("grafana/rules/{name}"));
        let more = rules["groups"].as_sequence();
        groups.extend(more.unwrap_or_else(|| panic!("{name} has no groups")).iter().cloned());
    }
    let mut rule = Value::Mapping(Mapping::new());
    rule["apiVersion"] = "monitoring.coreos.com/v1".into();
    rule["kind"] = "PrometheusRule".into();
    rule["metadata"]["name"] = "llmload".into();
    rule["spec"]["groups"] = Value::Sequence(groups);
    assert_generated(
        "deploy/monitoring/prometheusrule.yaml",
        &format!(
            "# Generated from grafana/rules, for the Prometheus Operator.\n{}",
            serde_yaml::to_string(&rule).unwrap()
        ),
    );

    let entries = files("grafana/dashboards", ".json").into_iter().map(|name| {
        let bytes =
            std::fs::metadata(repository().join("grafana/dashboards").join(&name)).unwrap().len();
        assert!(bytes < 1 << 20, "{name} is too large for a ConfigMap");
        format!(
            "  - {{name: llmload-{}, files: [dashboards/{name}]}}\n",
            name.trim_end_matches(".json")
        )
    });
    assert_generated(
        "grafana/kustomization.yaml",
        &(DASHBOARDS.to_owned() + &entries.collect::<String>()),
    );
    let monitoring = yaml("deploy/monitoring/kustomization.yaml");
    assert_eq!(texts(&monitoring["resources"]), ["prometheusrule.yaml", "../../grafana"]);
}

const DASHBOARDS: &str = "\
# Creates ConfigMaps with the dashboards. The Grafana of kube-prometheus-stack finds them by their
# label. This file is in this folder because kustomize does not read files outside its folder.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
generatorOptions:
  disableNameSuffixHash: true
  labels: {grafana_dashboard: \"1\"}
configMapGenerator:
";

fn assert_generated(path: &str, expected: &str) {
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(repository().join(path), expected).unwrap();
    }
    let found = std::fs::read_to_string(repository().join(path)).unwrap_or_default();
    assert_eq!(found, expected, "{path} is out of date; set UPDATE_EXPECTED=1 to write it again");
}
