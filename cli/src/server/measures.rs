//! What a `ResourceQuota` can limit besides the number of objects: what applications take of the nodes.

use apiserver::quota::{Amount, Evaluator, Find, Usage};
use serde_json::Value;

/// An Application takes its plan's processors and memory, once for each instance that is wanted.
pub(crate) struct Applications;

impl Evaluator for Applications {
    fn kind(&self) -> (&str, &str) {
        (crds::GROUP, "applications")
    }

    fn names(&self) -> &[&str] {
        &["instances", "cpu", "memory", "disk"]
    }

    fn usage(&self, application: &Value, find: Find<'_>) -> Option<Usage> {
        let spec = &application["spec"];
        let instances = if spec["running"] == false { 0 } else { spec["instances"].as_u64().unwrap_or(1) };
        let plan = find(crds::GROUP, "plans", "", spec["plan"].as_str()?)?;
        let part = |name: &str| {
            let text = match &plan["spec"][name] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            Amount::parse(&text).unwrap_or_default().times(instances)
        };
        Some(Usage::from([
            ("instances".to_owned(), Amount::units(instances)),
            ("cpu".to_owned(), part("cpu")),
            ("memory".to_owned(), part("memory")),
            ("disk".to_owned(), part("disk")),
        ]))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_application_takes_its_plan_for_each_instance() {
        let find = |group: &str, plural: &str, namespace: &str, name: &str| {
            ((group, plural, namespace, name) == ("berth.dev", "plans", "", "small"))
                .then(|| json!({"spec": {"cpu": "250m", "memory": "256Mi", "disk": "1Gi"}}))
        };
        let used = |spec: Value| {
            let usage = Applications.usage(&json!({"spec": spec}), &find)?;
            Some(
                usage
                    .iter()
                    .map(|(name, amount)| format!("{name}={}", amount.shown_like("i")))
                    .collect::<Vec<_>>()
                    .join(" "),
            )
        };
        assert_eq!(
            used(json!({"plan": "small", "instances": 3})).as_deref(),
            Some("cpu=750m disk=3Gi instances=3 memory=768Mi")
        );
        assert_eq!(used(json!({"plan": "none", "instances": 3})), None, "it is asked again when there is a plan");
    }
}
