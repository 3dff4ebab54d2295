//! What a repository holds, as far as finding a runtime needs it: the names of its files, and the text of a few.

use std::collections::BTreeMap;

/// Files whose text is read, if they are small: those that tools and detectors are configured by.
const READ_BYTES_MAX: u64 = 1 << 20;
/// How much text is kept at all.
const TEXT_BYTES_MAX: usize = 32 << 20;
/// How deep a file may lie for its text to be read: `project/settings/wsgi.py`.
const DEPTH_MAX: usize = 3;

/// The files of an application's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    files: BTreeMap<String, Option<String>>,
    text_bytes: usize,
}

impl Source {
    /// Whether a file's text is to be read.
    pub(super) fn is_read(path: &str, size: u64) -> bool {
        let depth = path.split('/').count();
        let name = path.rsplit('/').next().unwrap_or_default();
        let code = [".py", ".json", ".toml", ".txt", ".lock", ".yml", ".yaml"].iter().any(|end| name.ends_with(end));
        let docker = name.to_ascii_lowercase().contains("dockerfile") || name.ends_with(".dockerignore");
        size <= READ_BYTES_MAX
            && (depth == 1 || docker || (depth <= DEPTH_MAX && code && !path.starts_with("node_modules/")))
    }

    /// Takes a file in, with its text where that is text and there is room for it.
    pub(super) fn insert(&mut self, path: &str, content: Option<Vec<u8>>) {
        let text = content.and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.filter(|text| self.text_bytes + text.len() <= TEXT_BYTES_MAX);
        self.text_bytes += text.as_ref().map_or(0, String::len);
        // A mark at the beginning of a file is no part of what it says.
        let text = text.map(|text| text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text));
        self.files.insert(path.to_owned(), text);
    }

    /// Whether there is a file of this path.
    pub(super) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// Whether there is a folder of this path.
    pub(super) fn has_folder(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.files.range(folder.clone()..).next().is_some_and(|(file, _)| file.starts_with(&folder))
    }

    /// The text of a file.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// The first line of a file that says something.
    pub(super) fn line(&self, path: &str) -> Option<&str> {
        self.text(path)?.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))
    }

    /// A file as JSON, or what is wrong with it.
    pub(super) fn json(&self, path: &str) -> Option<Result<serde_json::Value, serde_json::Error>> {
        self.text(path).map(serde_json::from_str)
    }

    /// The paths of all files, in order.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Whether there is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The version that `.tool-versions` (asdf, mise) gives a tool.
    pub(super) fn tool_version(&self, tools: &[&str]) -> Option<&str> {
        self.text(".tool-versions")?.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            tools.contains(&words.next()?).then(|| words.next()).flatten()
        })
    }

    /// What a Procfile says of the web process.
    pub(super) fn procfile(&self) -> Option<&str> {
        let line = self.text("Procfile")?.lines().find_map(|line| line.trim().strip_prefix("web:"))?;
        Some(line.trim()).filter(|command| !command.is_empty())
    }

    /// A source with these files, for tests.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let mut source = Self::default();
        for (path, text) in files {
            source.insert(path, Some(text.as_bytes().to_vec()));
        }
        source
    }
}
