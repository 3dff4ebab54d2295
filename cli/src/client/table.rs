//! Server-side tables on a terminal, in kubectl's layout.

use serde_json::Value;

/// Asks the server for a table.
pub(crate) const ACCEPT: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// How tables are shown. It remembers the columns and their widths, because the changes of a watch come without
/// headings and should stand below those that came before.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// Columns of a lower priority too.
    wide: bool,
    /// A column with the namespace in front.
    with_namespace: bool,
    /// What stands before each name, for example `plan.berth.dev/`.
    prefix: String,
    columns: Vec<usize>,
    widths: Vec<usize>,
}

impl Layout {
    pub(crate) fn new(wide: bool, with_namespace: bool, prefix: String) -> Self {
        Self { wide, with_namespace, prefix, ..Self::default() }
    }

    /// The table as text: headings if it has any, then a line a row, columns three spaces apart.
    pub(crate) fn render(&mut self, table: &Value) -> String {
        let mut lines: Vec<Vec<String>> = Vec::new();
        if let Some(definitions) = table["columnDefinitions"].as_array().filter(|definitions| !definitions.is_empty()) {
            let shown = definitions
                .iter()
                .enumerate()
                .filter(|(_, column)| self.wide || column["priority"].as_i64().unwrap_or(0) == 0)
                .map(|(index, _)| index);
            self.columns = shown.collect();
            if self.widths.is_empty() {
                let heading = self.columns.iter().map(|index| cell(&definitions[*index]["name"]).to_uppercase());
                lines.push(self.with_namespace.then(|| "NAMESPACE".to_owned()).into_iter().chain(heading).collect());
            }
        }
        for row in table["rows"].as_array().into_iter().flatten() {
            let namespace = self.with_namespace.then(|| cell(&row["object"]["metadata"]["namespace"]));
            let cells = self.columns.iter().enumerate().map(|(position, index)| {
                let prefix = if position == 0 { self.prefix.as_str() } else { "" };
                format!("{prefix}{}", cell(&row["cells"][*index]))
            });
            lines.push(namespace.into_iter().chain(cells).collect());
        }
        align(&lines, &mut self.widths)
    }
}

/// Lines of cells as text, each column as wide as its widest cell.
pub(crate) fn aligned(lines: &[Vec<String>]) -> String {
    align(lines, &mut Vec::new())
}

fn align(lines: &[Vec<String>], widths: &mut Vec<usize>) -> String {
    for line in lines {
        for (column, cell) in line.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(column) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let mut out = String::new();
    for line in lines {
        let padded: Vec<String> =
            line.iter().zip(&*widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        out.push_str(padded.join("   ").trim_end());
        out.push('\n');
    }
    out
}

/// A cell: text without what could steer the terminal.
fn cell(value: &Value) -> String {
    match value {
        // An empty cell would make columns hard to count, for people and for awk.
        Value::Null => "<none>".to_owned(),
        Value::String(text) if text.is_empty() => "<none>".to_owned(),
        Value::String(text) => plain(text),
        other => plain(&other.to_string()),
    }
}

/// Text of others on one line, without what could steer the terminal.
pub(crate) fn plain(text: &str) -> String {
    text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Value {
        serde_json::json!({
            "columnDefinitions": [
                {"name": "Name", "priority": 0}, {"name": "Ready", "priority": 0}, {"name": "Plan", "priority": 1},
            ],
            "rows": [
                {"cells": ["shop", true, "small"], "object": {"metadata": {"namespace": "acme"}}},
                {"cells": ["a\u{1b}[31m", null, ""], "object": {"metadata": {"namespace": "b"}}},
            ],
        })
    }

    #[test]
    fn looks_like_kubectl() {
        let text = Layout::default().render(&table());
        assert_eq!(text, "NAME     READY\nshop     true\na [31m   <none>\n");
        let mut layout = Layout { wide: true, with_namespace: true, ..Layout::default() };
        assert!(layout.render(&table()).starts_with("NAMESPACE   NAME     READY    PLAN\nacme        shop"));
        let mut layout = Layout { prefix: "plan.berth.dev/".to_owned(), ..Layout::default() };
        assert!(layout.render(&table()).contains("\nplan.berth.dev/shop     true\n"));
    }

    #[test]
    fn changes_stand_below_what_came_before() {
        let mut layout = Layout::default();
        layout.render(&table());
        let change = serde_json::json!({"columnDefinitions": null, "rows": [{"cells": ["b", false, "small"]}]});
        assert_eq!(layout.render(&change), "b        false\n");
        assert_eq!(layout.render(&table()), "shop     true\na [31m   <none>\n", "headings come once");
    }
}
