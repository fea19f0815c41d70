//! Collects the secrets in the request bodies of each target. A server can quote a body, and
//! llmload then masks these values.

use std::collections::HashMap;
use std::sync::Arc;

use secrecy::ExposeSecret;

use crate::config::masking::secret_texts;
use crate::plan::{Scenario, SecretText, Target};

/// Adds the secrets of the bodies to the targets. Scenarios with the same target share an HTTP
/// client, so the target gets the secrets of all of them.
pub(super) fn add(scenarios: &mut [Scenario]) {
    let mut targets: HashMap<String, Arc<Target>> = HashMap::new();
    for scenario in &*scenarios {
        let of_scenario = secret_texts(&scenario.request.extra);
        for target in scenario.targets() {
            let entry = targets.entry(target.name.clone()).or_insert_with(|| Arc::clone(target));
            let of_target = secret_texts(&target.dialect.extra_body);
            let found: Vec<SecretText> =
                of_target.into_iter().chain(of_scenario.clone()).map(SecretText::from).collect();
            if !found.is_empty() {
                let secrets = &mut Arc::make_mut(entry).body_secrets;
                secrets.extend(found);
                secrets.sort_by(|a, b| a.expose_secret().cmp(b.expose_secret()));
                secrets.dedup();
            }
        }
    }
    let shared = |target: &mut Arc<Target>| {
        if let Some(found) = targets.get(&target.name) {
            *target = Arc::clone(found);
        }
    };
    for scenario in scenarios {
        shared(&mut scenario.target);
        scenario.other_targets.iter_mut().for_each(shared);
    }
}
