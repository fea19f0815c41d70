//! The shipped files that `llmload export` writes. They are part of the binary, so they fit its
//! metrics and its options.

/// A path in the folder of the export, and the content of the file.
pub(super) type ShippedFile = (&'static str, &'static str);

pub(super) const DASHBOARDS: [ShippedFile; 6] = [
    ("capacity.json", include_str!("../../../grafana/dashboards/capacity.json")),
    ("comparison.json", include_str!("../../../grafana/dashboards/comparison.json")),
    ("generator.json", include_str!("../../../grafana/dashboards/generator.json")),
    ("overview.json", include_str!("../../../grafana/dashboards/overview.json")),
    ("server.json", include_str!("../../../grafana/dashboards/server.json")),
    ("slo.json", include_str!("../../../grafana/dashboards/slo.json")),
];

pub(super) const RULES: [ShippedFile; 4] = [
    ("llmload-last-week.yml", include_str!("../../../grafana/rules/llmload-last-week.yml")),
    ("llmload-slo-short.yml", include_str!("../../../grafana/rules/llmload-slo-short.yml")),
    ("llmload-slo.yml", include_str!("../../../grafana/rules/llmload-slo.yml")),
    ("llmload.yml", include_str!("../../../grafana/rules/llmload.yml")),
];

/// The files of `docker compose`, besides the dashboards and the rules.
pub(super) const COMPOSE: [ShippedFile; 5] = [
    ("docker-compose.yml", include_str!("../../../docker-compose.yml")),
    (COMPOSE_CONFIG, include_str!("../../../deploy/compose/llmload.yml")),
    ("grafana/prometheus.yml", include_str!("../../../grafana/prometheus.yml")),
    (
        "grafana/provisioning/dashboards/llmload.yml",
        include_str!("../../../grafana/provisioning/dashboards/llmload.yml"),
    ),
    (
        "grafana/provisioning/datasources/prometheus.yml",
        include_str!("../../../grafana/provisioning/datasources/prometheus.yml"),
    ),
];

/// The configuration in [`COMPOSE`].
pub(super) const COMPOSE_CONFIG: &str = "deploy/compose/llmload.yml";
/// The configuration in [`SIDECAR`].
pub(super) const SIDECAR_CONFIG: &str = "llmload.yml";

/// The kustomize component, and a server that uses it.
pub(super) const SIDECAR: [ShippedFile; 8] = [
    ("kustomization.yaml", include_str!("../../../deploy/example/kustomization.yaml")),
    (SIDECAR_CONFIG, include_str!("../../../deploy/example/llmload.yml")),
    ("server.yaml", include_str!("../../../deploy/example/server.yaml")),
    ("sidecar/README.md", include_str!("../../../deploy/sidecar/README.md")),
    ("sidecar/container.yaml", include_str!("../../../deploy/sidecar/container.yaml")),
    ("sidecar/kustomization.yaml", include_str!("../../../deploy/sidecar/kustomization.yaml")),
    ("sidecar/pod.yaml", include_str!("../../../deploy/sidecar/pod.yaml")),
    ("sidecar/podmonitor.yaml", include_str!("../../../deploy/sidecar/podmonitor.yaml")),
];
