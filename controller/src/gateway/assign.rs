//! What a node is to run: pure. Everything that the agent needs is in its items, so that it asks nobody.

use std::collections::BTreeMap;

use crds::build::BuildPhase;
use crds::command;
use crds::env::EnvVar;
use crds::{Application, Build, CANCEL_ANNOTATION, Instance, Runtime};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use node_protocol::{
    BuildTask, EnvValue, GitAccess, HealthProbe, ITEM_BYTES_MAX, ImageTask, InstanceTask, Item, ItemKey, RouteTask,
    RunState, RuntimeChoice,
};

use super::index::{Index, uid};
use crate::credentials::Credentials;

/// A build that gets less than a processor and a gibibyte takes minutes over what takes seconds, whatever the plan of
/// the application that is built.
const BUILD_CPU_MILLIS_MIN: u64 = 1_000;
const BUILD_MEMORY_BYTES_MIN: u64 = 1 << 30;

/// The longest value of a variable, in a Secret as in an Application.
const VALUE_BYTES_MAX: usize = crds::env::VALUE_BYTES_MAX;
/// The longest environment of an instance, names and values: Linux starts no program with more than 2 MiB, and the
/// assignment holds one for each of a node's hundreds of instances.
const ENVIRONMENT_BYTES_MAX: usize = 512 << 10;

/// What a node is to run, and what it cannot be told to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assigned {
    /// The items, by key.
    pub items: BTreeMap<ItemKey, Item>,
    /// What was left out, and why.
    pub withheld: Vec<Withheld>,
}

/// Something that was placed on the node and cannot be assigned as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Withheld {
    /// The item that there would be.
    pub key: ItemKey,
    /// One CamelCase word for why there is none.
    pub reason: &'static str,
    /// The same for a person.
    pub message: String,
    /// What is told instead of an instance that has a container: that this one is kept as it is. A server that has just
    /// been started does not know the values it was started with, and that is no reason to take it down.
    pub keep: Option<Box<InstanceTask>>,
}

/// What the node of this name is to run.
pub fn assignment(node: &str, index: &Index) -> Assigned {
    let mut assigned = Assigned::default();
    let mut add = |item: Item, refusal: Option<Refusal>, keep: Option<Box<InstanceTask>>| match refusal {
        None => {
            assigned.items.insert(item.key(), item);
        }
        Some(Refusal(reason, message)) => {
            assigned.withheld.push(Withheld { key: item.key(), reason, message, keep });
        }
    };
    for instance in index.instances_on(node) {
        let namespace = instance.namespace().unwrap_or_default();
        let application = index.applications.get(&(namespace.clone(), instance.spec.application.clone()));
        let (task, refusal) = instance_task(instance, application.map(AsRef::as_ref), index);
        // What is to end needs no values, and must end even when they are gone.
        let refusal = refusal.filter(|_| task.state == RunState::Run);
        let made = instance.status.as_ref().is_some_and(|status| status.container_id.is_some());
        let keep =
            (made && refusal.is_some()).then(|| Box::new(InstanceTask { keep: true, env: Vec::new(), ..task.clone() }));
        add(Item::Instance(task), refusal, keep);
        if let Some(application) = application {
            add(Item::Route(route_task(application, index)), None, None);
        }
    }
    for build in index.builds_on(node) {
        let phase = build.status.as_ref().map(|status| status.phase).unwrap_or_default();
        if phase == BuildPhase::Succeeded {
            // As long as there is the Build, something may need its image: Builds go with the Releases they made.
            let build_uid = uid(&**build);
            add(Item::Image(ImageTask { build_uid }), None, None);
        }
        if phase.is_final() {
            continue;
        }
        let (task, refusal) = build_task(build, index);
        add(Item::Build(task), refusal, None);
    }
    assigned
}

/// The reference that a build's image gets. A namespace and a name are unique and hold no `/`, so no two builds share
/// one.
pub fn build_image(namespace: &str, name: &str) -> String {
    format!("berth/{namespace}/{name}:latest")
}

/// A reason and a message.
struct Refusal(&'static str, String);

/// An instance as it is told, and why it must not be, if so.
fn instance_task(
    instance: &Instance,
    application: Option<&Application>,
    index: &Index,
) -> (InstanceTask, Option<Refusal>) {
    let template = &instance.spec.template;
    let namespace = instance.namespace().unwrap_or_default();
    let state = if instance.metadata.deletion_timestamp.is_some() { RunState::Stop } else { RunState::Run };
    let (env, mut refusal) = match environment(&template.env, &namespace, index) {
        Ok(env) => (env, None),
        Err(refusal) => (Vec::new(), Some(refusal)),
    };
    let command = template.command.as_deref().and_then(command::argv);
    if template.command.is_some() && command.is_none() {
        let message = "the start command is not one line with its quotes closed".to_owned();
        refusal = refusal.or(Some(Refusal("InvalidCommand", message)));
    }
    let (cpu, memory, disk) = (template.cpu.millis(), template.memory.units(), template.disk.units());
    if cpu.is_err() || memory.is_err() || disk.is_err() {
        let message = "cpu, memory or disk is no quantity that can be counted".to_owned();
        refusal = refusal.or(Some(Refusal("InvalidQuantity", message)));
    }
    let health = &template.health;
    let task = InstanceTask {
        uid: uid(instance),
        name: instance.name_any(),
        application: instance.spec.application.clone(),
        application_uid: application.map(uid).unwrap_or_default(),
        release: instance.spec.release.clone(),
        state,
        image: template.image.clone(),
        digest: template.digest.clone(),
        command,
        port: template.port.and_then(|port| u16::try_from(port).ok()),
        env,
        cpu_millis: cpu.unwrap_or_default(),
        memory_bytes: memory.unwrap_or_default(),
        disk_bytes: disk.unwrap_or_default(),
        health: HealthProbe {
            path: health.path.clone(),
            interval_milliseconds: milliseconds(health.interval),
            timeout_milliseconds: milliseconds(health.timeout),
            failures: u32::try_from(health.failures).unwrap_or(1).max(1),
            grace_milliseconds: milliseconds(health.grace),
        },
        drain_milliseconds: milliseconds(template.drain),
        keep: false,
        namespace,
    };
    (task, refusal)
}

/// The variables with their values. A Secret is only ever looked for in the namespace of who asks.
fn environment(variables: &[EnvVar], namespace: &str, index: &Index) -> Result<Vec<EnvValue>, Refusal> {
    let mut values = Vec::with_capacity(variables.len());
    let mut bytes = 0;
    for variable in variables {
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(source)) => {
                let reference = &source.secret_key_ref;
                let key = (namespace.to_owned(), reference.name.clone());
                let secret = index.secrets.get(&key).ok_or_else(|| {
                    Refusal("SecretNotFound", format!("there is no Secret {:?} in {namespace}", reference.name))
                })?;
                secret_text(secret, &reference.key).ok_or_else(|| {
                    let (name, key) = (&reference.name, &reference.key);
                    Refusal("SecretKeyNotFound", format!("the Secret {name:?} has no text under the key {key:?}"))
                })?
            }
            (Some(value), None) => value.clone(),
            (None, None) => String::new(),
        };
        bytes += variable.name.len() + value.len();
        // Before it is kept: the same large value may be named hundreds of times.
        if value.len() > VALUE_BYTES_MAX || bytes > ENVIRONMENT_BYTES_MAX {
            let (one, all) = (VALUE_BYTES_MAX >> 10, ENVIRONMENT_BYTES_MAX >> 10);
            let message = format!(
                "the variable {} is too large: a value may have {one} KiB, all names and values together {all} KiB",
                variable.name
            );
            return Err(Refusal("EnvironmentTooLarge", message));
        }
        values.push(EnvValue { name: variable.name.clone(), value });
    }
    Ok(values)
}

/// A text of a Secret; none if it is missing, not UTF-8, or has a NUL, which no environment can hold.
fn secret_text(secret: &Secret, key: &str) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.0.clone()).ok().filter(|text| !text.contains('\0'))
}

/// A build as it is told, and why it must not be, if so.
fn build_task(build: &Build, index: &Index) -> (BuildTask, Option<Refusal>) {
    let namespace = build.namespace().unwrap_or_default();
    let name = build.name_any();
    let application = index.applications.get(&(namespace.clone(), build.spec.application.clone()));
    let cancel = build.metadata.deletion_timestamp.is_some()
        || build.annotations().get(CANCEL_ANNOTATION).is_some_and(|value| value == "true");
    let (git, mut refusal) = match git_access(build, &namespace, index) {
        Ok(git) => (git, None),
        Err(refusal) => (plain_access(build), Some(refusal)),
    };
    let plan = application.and_then(|application| index.plans.get(&application.spec.plan));
    let cpu = plan.and_then(|plan| plan.spec.cpu.millis().ok()).unwrap_or_default();
    let memory = plan.and_then(|plan| plan.spec.memory.units().ok()).unwrap_or_default();
    let task = BuildTask {
        uid: uid(build),
        application: build.spec.application.clone(),
        cancel,
        git,
        runtimes: runtimes(build, index),
        detect: build.spec.runtime.is_none(),
        options: build.spec.options.clone(),
        start_command: application.and_then(|application| application.spec.start.command.clone()),
        port: application.and_then(|application| application.spec.start.port).and_then(|port| u16::try_from(port).ok()),
        image: build_image(&namespace, &name),
        cpu_millis: cpu.max(BUILD_CPU_MILLIS_MIN),
        memory_bytes: memory.max(BUILD_MEMORY_BYTES_MIN),
        timeout_milliseconds: milliseconds(build.spec.options.timeout),
        namespace,
        name,
    };
    let bytes = serde_json::to_vec(&task).map_or(0, |json| json.len());
    if bytes > ITEM_BYTES_MAX {
        let message = format!("the build's arguments take {bytes} bytes, and {ITEM_BYTES_MAX} may be sent to a node");
        refusal = refusal.or(Some(Refusal("TooLarge", message)));
    }
    // What is to end needs to sign in nowhere.
    (task, refusal.filter(|_| !cancel))
}

/// The chosen runtime, or all that new applications may use. A named one is used even when it is no longer on offer:
/// who chose it keeps it.
fn runtimes(build: &Build, index: &Index) -> Vec<RuntimeChoice> {
    let choice = |name: &String, runtime: &Runtime| RuntimeChoice {
        name: name.clone(),
        language: runtime.spec.language,
        version: runtime.spec.version.clone(),
        build_image: runtime.spec.build_image.clone(),
        run_image: runtime.spec.run_image.clone(),
        presets: runtime.spec.presets.clone(),
    };
    if let Some(name) = &build.spec.runtime {
        return index.runtimes.get(name).map(|runtime| choice(name, runtime)).into_iter().collect();
    }
    let active = index.runtimes.iter().filter(|(_, runtime)| runtime.spec.active);
    active.map(|(name, runtime)| choice(name, runtime)).collect()
}

fn plain_access(build: &Build) -> GitAccess {
    let git = &build.spec.source.git;
    GitAccess {
        url: git.url.clone(),
        branch: git.branch.clone(),
        commit: build.spec.commit.clone(),
        path: git.path.clone(),
        username: None,
        password: None,
        ssh_private_key: None,
        known_hosts: None,
    }
}

fn git_access(build: &Build, namespace: &str, index: &Index) -> Result<GitAccess, Refusal> {
    let plain = plain_access(build);
    let Some(credentials) = &build.spec.source.git.credentials else {
        return Ok(plain);
    };
    let name = &credentials.secret_name;
    let secret = index
        .secrets
        .get(&(namespace.to_owned(), name.clone()))
        .ok_or_else(|| Refusal("SecretNotFound", format!("there is no Secret {name:?} in {namespace}")))?;
    let Credentials { username, password, ssh_private_key, known_hosts } = Credentials::of(secret);
    let access = GitAccess { username, password, ssh_private_key, known_hosts, ..plain };
    if access.password.is_none() && access.ssh_private_key.is_none() {
        let message = format!("the Secret {name:?} has neither password nor ssh-privatekey");
        return Err(Refusal("SecretKeyNotFound", message));
    }
    Ok(access)
}

fn route_task(application: &Application, index: &Index) -> RouteTask {
    RouteTask {
        application_uid: uid(application),
        namespace: application.namespace().unwrap_or_default(),
        application: application.name_any(),
        hosts: index.hosts(application),
    }
}

fn milliseconds(span: crds::duration::Span) -> u64 {
    u64::try_from(span.get().as_millis()).unwrap_or(u64::MAX)
}
