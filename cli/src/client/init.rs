//! `berth init`: a berth.yaml from the folder it stands in.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::args::Init;
use crate::failure::{Exit, fail};
use crate::print;

/// Where the source of a folder is.
struct Remote {
    url: Option<String>,
    branch: String,
    /// The folder, relative to the repository.
    path: String,
}

pub(crate) fn init(options: &Init) -> anyhow::Result<()> {
    let folder = options
        .folder
        .canonicalize()
        .map_err(|error| fail(Exit::Usage, format!("cannot use {}: {error}", options.folder.display())))?;
    if !folder.is_dir() {
        return Err(fail(Exit::Usage, format!("{} is no folder", folder.display())));
    }
    let file = folder.join("berth.yaml");
    if file.exists() && !options.force {
        return Err(fail(Exit::Refused, format!("{} is there already: --force overwrites it", file.display())));
    }
    let folder_name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = options.name.clone().unwrap_or_else(|| as_name(&folder_name));
    if !crds::names::is_label(&name) || name.len() > 40 {
        let allowed = "1 to 40 of a-z, 0-9 and -, with a letter or digit at both ends";
        return Err(fail(Exit::Usage, format!("{name:?} cannot be a name: give --name with {allowed}")));
    }
    if options.plan.is_empty() || !options.plan.split('.').all(crds::names::is_label) {
        return Err(fail(Exit::Usage, format!("{:?} cannot be the name of a plan", options.plan)));
    }
    let text = render(&name, &options.plan, &remote(&folder));
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    print::note(&format!("Wrote {}. Read it, then: berth apply -f {}", file.display(), file.display()));
    Ok(())
}

fn remote(folder: &Path) -> Remote {
    let url = git(folder, &["config", "--get", "remote.origin.url"]);
    let prefix = git(folder, &["rev-parse", "--show-prefix"]).unwrap_or_default();
    let prefix = prefix.trim_end_matches('/');
    Remote {
        url: url.as_deref().and_then(as_address),
        branch: git(folder, &["symbolic-ref", "--short", "HEAD"]).unwrap_or_else(|| "main".to_owned()),
        path: if prefix.is_empty() { ".".to_owned() } else { prefix.to_owned() },
    }
}

fn render(name: &str, plan: &str, remote: &Remote) -> String {
    let unknown = "   # the folder has no remote: put the repository's address here";
    let (url, note) = match &remote.url {
        Some(url) => (url.as_str(), ""),
        None => ("https://git.example.com/me/app.git", unknown),
    };
    let path = if remote.path == "." { String::new() } else { format!("\n      path: {}", scalar(&remote.path)) };
    let credentials = if url.starts_with("ssh:") {
        "\n      # A Secret with ssh-privatekey and known_hosts:\n      credentials: { secretName: deploy-key }"
    } else {
        "\n      # For a private repository, a Secret with username and password (or a token):\n      \
         # credentials: { secretName: deploy-key }"
    };
    format!(
        "apiVersion: berth.dev/v1alpha1\nkind: Application\nmetadata:\n  name: {}\nspec:\n  source:\n    git:\n      \
         url: {}{note}\n      branch: {}{path}{credentials}\n  plan: {}   # berth get plans\n  instances: 1\n  \
         # The runtime, the commands and the port are found from the files; what is written here wins:\n  \
         # runtime: nodejs-20\n  # build: {{ command: npm run build }}\n  \
         # start: {{ command: node server.js, port: 8080 }}\n  \
         # env:\n  #   - {{ name: LOG_LEVEL, value: info }}\n  # health: {{ path: /healthz }}\n",
        scalar(name),
        scalar(url),
        scalar(&remote.branch),
        scalar(plan),
    )
}

/// A text in YAML, in quotes where it could be read as a number, a truth or a mark of YAML's own.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/+@-".contains(&b) || b == b':')
        && !text.ends_with(':')
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_lowercase().as_str());
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// A folder's name as the name of an application.
fn as_name(folder: &str) -> String {
    let plain: String =
        folder.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let trimmed = plain.trim_matches('-');
    trimmed[..trimmed.len().min(40)].trim_end_matches('-').to_owned()
}

/// A remote as an address that Berth takes: `git@host:path` is ssh in short. Passwords in it are left out.
fn as_address(remote: &str) -> Option<String> {
    if let Some((user_host, path)) =
        remote.split_once(':').filter(|(left, path)| left.contains('@') && !path.starts_with("//"))
    {
        return Some(format!("ssh://{user_host}/{}", path.trim_start_matches('/')));
    }
    let mut url = url::Url::parse(remote).ok().filter(|url| ["https", "http", "ssh"].contains(&url.scheme()))?;
    if url.scheme() != "ssh" && url.set_username("").is_err() {
        return None;
    }
    url.set_password(None).ok()?;
    Some(url.to_string())
}

fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(url: Option<&str>, branch: &str, path: &str) -> Remote {
        Remote { url: url.map(str::to_owned), branch: branch.to_owned(), path: path.to_owned() }
    }

    #[test]
    fn writes_what_the_server_takes() {
        for remote in [
            remote(Some("https://git.example.com/a/shop.git"), "main", "."),
            remote(Some("ssh://git@git.example.com/a/shop.git"), "1.0", "services/12"),
            remote(None, "on", "web"),
        ] {
            let text = render("123", "small", &remote);
            let object = crate::client::manifest::parse(&text).unwrap().remove(0);
            let application: crds::Application = serde_json::from_value(object).unwrap();
            assert_eq!(crds::application::validate(&application), [], "{text}");
            let git = application.spec.source.git.unwrap();
            assert_eq!((git.branch, git.path), (remote.branch, remote.path));
        }
    }

    #[test]
    fn remotes_become_addresses_without_passwords() {
        assert_eq!(as_address("git@host:a/b.git").as_deref(), Some("ssh://git@host/a/b.git"));
        assert_eq!(as_address("https://me:hunter2@host/a.git").as_deref(), Some("https://host/a.git"));
        assert_eq!(as_address("/srv/git/a"), None);
    }

    #[test]
    fn folders_become_names() {
        assert_eq!(as_name("My Shop_2"), "my-shop-2");
        assert_eq!(as_name("--"), "");
        assert_eq!(as_name(&format!("{}-{}", "x".repeat(39), "y")), "x".repeat(39));
        assert_eq!(as_name("Größe"), "gr--e");
    }
}
