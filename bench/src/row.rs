//! A row of the results, and the file that holds them.

use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::figures::median;
use crate::machine::Machine;

/// One figure, beside its peer's and what it should be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The number of the row in the table of goals, then what is measured.
    pub(crate) id: String,
    /// The median of the repetitions.
    pub(crate) value: f64,
    pub(crate) unit: String,
    /// The same measured on another system in the same run.
    pub(crate) peer: Option<Peer>,
    /// `value` through the peer's value.
    pub(crate) ratio: Option<f64>,
    pub(crate) limit: Limit,
    /// Each repetition, in the order in which they ran.
    pub(crate) repetitions: Vec<f64>,
    pub(crate) machine: Machine,
    pub(crate) date: Timestamp,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) repetitions: Vec<f64>,
}

/// What the figure is held against.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Limit {
    /// Whether a good value is at least or at most the goal.
    pub(crate) bound: Bound,
    pub(crate) goal: f64,
    /// What this machine could do at best, measured in the same run, where that is known.
    pub(crate) machine: Option<f64>,
    /// What goal and machine's limit are.
    pub(crate) meaning: String,
    /// Whether the goal is reached.
    pub(crate) met: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Bound {
    AtLeast,
    AtMost,
}

/// A figure without the things that all figures of a run share.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) id: String,
    pub(crate) unit: &'static str,
    pub(crate) repetitions: Vec<f64>,
    pub(crate) peer: Option<(String, Vec<f64>)>,
    pub(crate) bound: Bound,
    pub(crate) goal: f64,
    pub(crate) machine: Option<f64>,
    pub(crate) meaning: &'static str,
}

impl Figure {
    pub(crate) fn at_least(id: impl Into<String>, unit: &'static str, repetitions: Vec<f64>, goal: f64) -> Self {
        Self::new(id.into(), unit, repetitions, Bound::AtLeast, goal)
    }

    pub(crate) fn at_most(id: impl Into<String>, unit: &'static str, repetitions: Vec<f64>, goal: f64) -> Self {
        Self::new(id.into(), unit, repetitions, Bound::AtMost, goal)
    }

    fn new(id: String, unit: &'static str, repetitions: Vec<f64>, bound: Bound, goal: f64) -> Self {
        Self { id, unit, repetitions, peer: None, bound, goal, machine: None, meaning: "" }
    }

    pub(crate) fn beside(mut self, name: impl Into<String>, repetitions: Vec<f64>) -> Self {
        self.peer = Some((name.into(), repetitions));
        self
    }

    pub(crate) fn machine(mut self, value: f64) -> Self {
        self.machine = Some(value);
        self
    }

    pub(crate) fn meaning(mut self, text: &'static str) -> Self {
        self.meaning = text;
        self
    }

    /// The row of this figure.
    pub(crate) fn row(self, machine: &Machine, date: Timestamp) -> Row {
        let value = round(median(&self.repetitions));
        let met = match self.bound {
            Bound::AtLeast => value >= self.goal,
            Bound::AtMost => value <= self.goal,
        };
        let peer = self.peer.map(|(name, repetitions)| Peer {
            name,
            value: round(median(&repetitions)),
            repetitions: repetitions.into_iter().map(round).collect(),
        });
        let ratio = peer.as_ref().filter(|peer| peer.value != 0.0).map(|peer| round(value / peer.value));
        let limit = Limit {
            bound: self.bound,
            goal: self.goal,
            machine: self.machine.map(round),
            meaning: self.meaning.to_owned(),
            met,
        };
        Row {
            id: self.id,
            value,
            unit: self.unit.to_owned(),
            peer,
            ratio,
            limit,
            repetitions: self.repetitions.into_iter().map(round).collect(),
            machine: machine.clone(),
            date,
        }
    }
}

/// Four digits say all that a benchmark knows.
fn round(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the magnitude of a figure is a small number")]
    let digits = (3 - value.abs().log10().floor() as i32).max(0);
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

/// The rows in the file, or none where there is no file.
pub(crate) fn read(file: &Path) -> anyhow::Result<Vec<Row>> {
    match std::fs::read(file) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{} is no list of rows", file.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Puts new rows in the place of the old ones of the same numbers, in the order of the numbers.
pub(crate) fn merge(old: Vec<Row>, new: Vec<Row>) -> Vec<Row> {
    let measured: Vec<u32> = new.iter().map(number).collect();
    let mut rows: Vec<Row> = old.into_iter().filter(|row| !measured.contains(&number(row))).chain(new).collect();
    rows.sort_by_key(number);
    rows
}

/// Writes the file at once, so that nobody reads half of it.
pub(crate) fn write(file: &Path, rows: &[Row]) -> anyhow::Result<()> {
    let folder = file.parent().context("the results need a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut text = serde_json::to_vec_pretty(rows)?;
    text.push(b'\n');
    let new = file.with_extension("json.new");
    std::fs::write(&new, text).with_context(|| format!("cannot write {}", new.display()))?;
    std::fs::rename(&new, file).with_context(|| format!("cannot write {}", file.display()))
}

fn number(row: &Row) -> u32 {
    row.id.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, value: f64) -> Row {
        Figure::at_least(id, "1/s", vec![value], 2.0)
            .beside("another", vec![value * 2.0])
            .row(&Machine::default(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_row_knows_its_median_its_ratio_and_whether_its_goal_is_met() {
        let figure = Figure::at_most("4 list", "ms", vec![9.0, 1.0, 2.0], 2.5).beside("etcd", vec![8.0]);
        let row = figure.row(&Machine::default(), Timestamp::UNIX_EPOCH);
        assert_eq!((row.value, row.ratio, row.limit.met), (2.0, Some(0.25), true));
        assert!(!super::tests::row("1 create", 1.0).limit.met);
    }

    #[test]
    fn a_part_of_the_rows_replaces_only_its_own() {
        let old = vec![row("1 create", 1.0), row("1 create p99", 1.0), row("10 more", 1.0)];
        let merged = merge(old, vec![row("2 create", 5.0), row("1 create", 5.0)]);
        let ids: Vec<(&str, f64)> = merged.iter().map(|row| (row.id.as_str(), row.value)).collect();
        assert_eq!(ids, [("1 create", 5.0), ("2 create", 5.0), ("10 more", 1.0)]);
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("results").join("latest.json");
        assert!(read(&file).unwrap().is_empty());
        write(&file, &[row("1 create", 12_345.678)]).unwrap();
        let rows = read(&file).unwrap();
        assert_eq!((rows.len(), rows[0].value), (1, 12_346.0));
    }

    #[test]
    fn four_digits() {
        assert_eq!((round(0.123_456), round(12_345.6), round(0.0)), (0.1235, 12_346.0, 0.0));
    }
}
