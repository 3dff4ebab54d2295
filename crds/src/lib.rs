//! What Berth's resources are: one file a kind, with its schema, defaults, CEL rules and `validate()`.
//!
//! Shared by the controller, the agent (through `node-protocol`), the command line and, generated, everybody else.
//! [`KINDS`] is the one list that everything else walks: the YAML, the examples, the controller's folders.

#![expect(unreachable_pub, reason = "the schema derive repeats each struct in a private scope")]
#![warn(missing_docs)]
#![expect(clippy::duplicated_attributes, reason = "the columns of a kind are attributes that repeat their keys")]

pub mod address;
pub mod application;
pub mod build;
pub mod command;
pub mod condition;
pub mod duration;
pub mod env;
pub mod git;
pub mod hash;
pub mod health;
pub mod image;
pub mod instance;
pub mod invalid;
pub mod money;
pub mod names;
pub mod node;
pub mod plan;
pub mod quantity;
pub mod release;
pub mod runtime;
pub mod user;

pub use application::Application;
pub use build::Build;
pub use instance::Instance;
pub use invalid::Invalid;
pub use node::Node;
pub use plan::Plan;
pub use release::Release;
pub use runtime::Runtime;
pub use user::User;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

/// The API group of every kind of Berth.
pub const GROUP: &str = "berth.dev";
/// The API version of every kind of Berth.
pub const VERSION: &str = "v1alpha1";
/// The finalizer that keeps an object until what it stands for is gone.
pub const FINALIZER: &str = "berth.dev/teardown";
/// The finalizer that keeps a Plan or Runtime while an Application uses it.
pub const IN_USE_FINALIZER: &str = "berth.dev/in-use";
/// Label on everything that belongs to an Application: the Application's name.
pub const APPLICATION_LABEL: &str = "berth.dev/application";
/// Label on an Instance: the name of its Release.
pub const RELEASE_LABEL: &str = "berth.dev/release";
/// Annotation on an Application whose changed value asks for a new build and rollout of unchanged content.
pub const DEPLOY_ANNOTATION: &str = "berth.dev/deploy";
/// Annotation on an Application whose changed value asks for a rolling restart.
pub const RESTART_ANNOTATION: &str = "berth.dev/restart";
/// Annotation on a Build that asks for it to be cancelled (`"true"`).
pub const CANCEL_ANNOTATION: &str = "berth.dev/cancel";
/// Where Berth keeps its own Secrets, such as the hashes of join tokens.
pub const SYSTEM_NAMESPACE: &str = "berth-system";

/// One line of the table of kinds.
#[derive(Clone, Copy)]
pub struct KindEntry {
    /// The file's and folder's name everywhere: `crds/src/<noun>.rs`, `controller/src/<noun>/`.
    pub noun: &'static str,
    /// The SQL table of the kind's objects in the embedded store.
    pub table: &'static str,
    /// Whether the objects are sealed in the store: their environment variables may be passwords.
    pub sealed: bool,
    /// The definition that is served, written to `crds/<noun>.yaml` and installed on a real cluster.
    pub crd: fn() -> CustomResourceDefinition,
    /// Checks what the schema cannot say: the new object, as JSON.
    pub validate: fn(&Value) -> Vec<Invalid>,
}

/// The table of kinds.
pub const KINDS: &[KindEntry] = &[
    KindEntry { noun: "plan", table: "paas_plans", sealed: false, crd: Plan::crd, validate: plan::validate_json },
    KindEntry {
        noun: "runtime",
        table: "paas_runtimes",
        sealed: false,
        crd: Runtime::crd,
        validate: runtime::validate_json,
    },
    KindEntry { noun: "node", table: "paas_nodes", sealed: false, crd: Node::crd, validate: node::validate_json },
    KindEntry {
        noun: "application",
        table: "paas_applications",
        sealed: true,
        crd: Application::crd,
        validate: application::validate_json,
    },
    KindEntry { noun: "build", table: "paas_builds", sealed: false, crd: Build::crd, validate: build::validate_json },
    KindEntry {
        noun: "release",
        table: "paas_releases",
        sealed: true,
        crd: Release::crd,
        validate: release::validate_json,
    },
    KindEntry {
        noun: "instance",
        table: "paas_instances",
        sealed: true,
        crd: Instance::crd,
        validate: instance::validate_json,
    },
    KindEntry { noun: "user", table: "paas_users", sealed: false, crd: User::crd, validate: user::validate_json },
];

impl KindEntry {
    /// The definition as YAML, as it stands in `crds/<noun>.yaml`.
    pub fn yaml(&self) -> String {
        let crd = (self.crd)();
        let body = serde_saphyr::to_string(&crd).expect("a definition is plain data");
        format!("# Generated from crds/src/{}.rs by `cargo xtask generate`.\n{body}", self.noun)
    }
}

/// All definitions as one YAML stream: what `berth crds` prints.
pub fn yaml() -> String {
    KINDS.iter().map(KindEntry::yaml).collect::<Vec<_>>().join("---\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_committed_yaml_is_what_the_types_say() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        for entry in KINDS {
            let path = folder.join(format!("{}.yaml", entry.noun));
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(committed == entry.yaml(), "{} is stale: run `cargo xtask generate`", path.display());
        }
    }

    #[test]
    fn every_kind_has_what_tools_rely_on() {
        for entry in KINDS {
            let crd = (entry.crd)();
            let version = &crd.spec.versions[0];
            assert_eq!(crd.spec.names.singular.as_deref(), Some(entry.noun));
            assert_eq!(crd.spec.names.categories.as_ref().map(|c| c.contains(&"berth".to_owned())), Some(true));
            assert!(version.subresources.as_ref().is_some_and(|s| s.status.is_some()), "{} has no status", entry.noun);
            assert!(version.additional_printer_columns.as_ref().is_some_and(|c| c.len() > 3), "{}", entry.noun);
            let schema = serde_json::to_value(&version.schema).unwrap();
            let status = &schema["openAPIV3Schema"]["properties"]["status"]["properties"];
            for field in ["conditions", "observedGeneration"] {
                assert!(status.get(field).is_some(), "{} has no status.{field}", entry.noun);
            }
        }
    }
}
