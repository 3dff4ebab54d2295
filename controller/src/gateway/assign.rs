//! What a node is to run: pure. Everything that the agent needs is in its items, so that it asks nobody.

use std::collections::BTreeMap;

use crds::build::BuildPhase;
use crds::command;
use crds::env::EnvVar;
use crds::{Application, Build, CANCEL_ANNOTATION, Instance, Runtime};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use node_protocol::{
    BuildTask, EnvValue, GitAccess, HealthProbe, ImageTask, InstanceTask, Item, ItemKey, RouteTask, RunState,
    RuntimeChoice,
};

use super::index::{Index, uid};

/// A build that gets less than a processor and a gibibyte takes minutes over what takes seconds, whatever the plan of
/// the application that is built.
const BUILD_CPU_MILLIS_MIN: u64 = 1_000;
const BUILD_MEMORY_BYTES_MIN: u64 = 1 << 30;

/// What a node is to run, and what it cannot be told to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assigned {
    /// The items, by key.
    pub items: BTreeMap<ItemKey, Item>,
    /// What was left out, and why.
    pub withheld: Vec<Withheld>,
}

/// Something that was placed on the node and cannot be assigned as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// The item that there would be.
    pub key: ItemKey,
    /// One CamelCase word for why there is none.
    pub reason: &'static str,
    /// The same for a person.
    pub message: String,
}

/// What the node of this name is to run.
pub fn assignment(node: &str, index: &Index) -> Assigned {
    let mut assigned = Assigned::default();
    let mut add = |key: ItemKey, item: Result<Item, Refusal>| match item {
        Ok(item) => {
            assigned.items.insert(key, item);
        }
        Err(refusal) => assigned.withheld.push(Withheld { key, reason: refusal.0, message: refusal.1 }),
    };
    for instance in index.instances_on(node) {
        let namespace = instance.namespace().unwrap_or_default();
        let application = index.applications.get(&(namespace.clone(), instance.spec.application.clone()));
        let item = instance_task(instance, application.map(AsRef::as_ref), index).map(Item::Instance);
        add(ItemKey::Instance(uid(&**instance)), item);
        if let Some(application) = application {
            let route = route_task(application, index);
            add(ItemKey::Route(route.application_uid.clone()), Ok(Item::Route(route)));
        }
    }
    for build in index.builds_on(node) {
        let phase = build.status.as_ref().map(|status| status.phase).unwrap_or_default();
        if phase == BuildPhase::Succeeded {
            // As long as there is the Build, something may need its image: Builds go with the Releases they made.
            let build_uid = uid(&**build);
            add(ItemKey::Image(build_uid.clone()), Ok(Item::Image(ImageTask { build_uid })));
        }
        if phase.is_final() {
            continue;
        }
        add(ItemKey::Build(uid(&**build)), build_task(build, index).map(Item::Build));
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

fn instance_task(
    instance: &Instance,
    application: Option<&Application>,
    index: &Index,
) -> Result<InstanceTask, Refusal> {
    let template = &instance.spec.template;
    let namespace = instance.namespace().unwrap_or_default();
    let state = if instance.metadata.deletion_timestamp.is_some() { RunState::Stop } else { RunState::Run };
    // What is to end needs no values, and must end even when they are gone.
    let needed = |refusal: Refusal| if state == RunState::Run { Err(refusal) } else { Ok(()) };
    let env = environment(&template.env, &namespace, index).or_else(|refusal| needed(refusal).map(|()| Vec::new()))?;
    let command = template.command.as_deref().and_then(command::argv);
    if template.command.is_some() && command.is_none() {
        let message = "the start command is not one line with its quotes closed".to_owned();
        needed(Refusal("InvalidCommand", message))?;
    }
    let (cpu, memory, disk) = (template.cpu.millis(), template.memory.units(), template.disk.units());
    if cpu.is_err() || memory.is_err() || disk.is_err() {
        needed(Refusal("InvalidQuantity", "cpu, memory or disk is no quantity that can be counted".to_owned()))?;
    }
    let health = &template.health;
    Ok(InstanceTask {
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
        namespace,
    })
}

/// The variables with their values. A Secret is only ever looked for in the namespace of who asks.
fn environment(variables: &[EnvVar], namespace: &str, index: &Index) -> Result<Vec<EnvValue>, Refusal> {
    let mut values = Vec::with_capacity(variables.len());
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
        values.push(EnvValue { name: variable.name.clone(), value });
    }
    Ok(values)
}

/// A text of a Secret; none if it is missing, not UTF-8, or has a NUL, which no environment can hold.
fn secret_text(secret: &Secret, key: &str) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.0.clone()).ok().filter(|text| !text.contains('\0'))
}

fn build_task(build: &Build, index: &Index) -> Result<BuildTask, Refusal> {
    let namespace = build.namespace().unwrap_or_default();
    let name = build.name_any();
    let application = index.applications.get(&(namespace.clone(), build.spec.application.clone()));
    let cancel = build.metadata.deletion_timestamp.is_some()
        || build.annotations().get(CANCEL_ANNOTATION).is_some_and(|value| value == "true");
    let git = match git_access(build, &namespace, index) {
        Ok(git) => git,
        // What is to end needs to sign in nowhere.
        Err(_) if cancel => plain_access(build),
        Err(refusal) => return Err(refusal),
    };
    let plan = application.and_then(|application| index.plans.get(&application.spec.plan));
    let cpu = plan.and_then(|plan| plan.spec.cpu.millis().ok()).unwrap_or_default();
    let memory = plan.and_then(|plan| plan.spec.memory.units().ok()).unwrap_or_default();
    Ok(BuildTask {
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
    })
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
    let access = GitAccess {
        username: secret_text(secret, "username"),
        password: secret_text(secret, "password").or_else(|| secret_text(secret, "token")),
        ssh_private_key: secret_text(secret, "ssh-privatekey"),
        known_hosts: secret_text(secret, "known_hosts"),
        ..plain
    };
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
