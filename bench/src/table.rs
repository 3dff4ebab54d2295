//! The results for a person's eyes.

use crate::row::{Bound, Row};

/// Prints rows, one a line.
pub(crate) fn rows(rows: &[Row]) {
    for row in rows {
        line(&text(row));
    }
}

fn text(row: &Row) -> String {
    let sign = match row.limit.bound {
        Bound::AtLeast => "≥",
        Bound::AtMost => "≤",
    };
    let peer = row.peer.as_ref().map_or_else(String::new, |peer| {
        let ratio = row.ratio.map_or_else(String::new, |ratio| format!(" ({ratio} ×)"));
        format!("  {}: {}{ratio}", peer.name, peer.value)
    });
    let machine = row.limit.machine.map_or_else(String::new, |machine| format!("  machine: {machine}"));
    format!(
        "   {mark} {id:<58} {value:>9} {unit:<5} goal {sign} {goal}{peer}{machine}",
        mark = if row.limit.met { "✓" } else { "✗" },
        id = row.id,
        value = row.value,
        unit = row.unit,
        goal = row.limit.goal,
    )
}

/// Prints a line.
#[expect(clippy::print_stdout, reason = "this program's result is what it prints")]
pub(crate) fn line(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::machine::Machine;
    use crate::row::Figure;

    #[test]
    fn a_line_says_value_goal_and_peer() {
        let figure = Figure::at_least("2 create", "1/s", vec![50.0], 100.0).beside("etcd", vec![25.0]).machine(200.0);
        let line = text(&figure.row(&Machine::default(), Timestamp::UNIX_EPOCH));
        let words: Vec<&str> = line.split_whitespace().collect();
        let wanted =
            ["✗", "2", "create", "50", "1/s", "goal", "≥", "100", "etcd:", "25", "(2", "×)", "machine:", "200"];
        assert_eq!(words, wanted);
    }
}
