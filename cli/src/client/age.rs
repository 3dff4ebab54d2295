//! Times as a person reads them: how long ago, in kubectl's words.

use jiff::Timestamp;

/// `5s`, `3m20s`, `4h`, `2d`: how long before `now` a time was; nothing for what is no time.
pub(super) fn since(time: &str, now: Timestamp) -> Option<String> {
    let seconds = now.duration_since(time.parse::<Timestamp>().ok()?).as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, unit: char, small: i64, of: char| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{of}") }
    };
    Some(match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two(days, 'd', hours % 24, 'h'),
        () if days < 730 => format!("{days}d"),
        () => format!("{}y", days / 365),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_in_kubectl() {
        let now = Timestamp::from_second(10_000_000).unwrap();
        let check = |seconds: i64, expected: &str| {
            let time = Timestamp::from_second(10_000_000 - seconds).unwrap().to_string();
            assert_eq!(since(&time, now).as_deref(), Some(expected), "{seconds}");
        };
        check(-5, "0s");
        check(119, "119s");
        check(120, "2m");
        check(200, "3m20s");
        check(600, "10m");
        check(3 * 3600, "3h");
        check(3 * 3600 + 65, "3h1m");
        check(50 * 3600, "2d2h");
        check(9 * 86_400, "9d");
        assert_eq!(since("yesterday", now), None);
    }
}
