//! What git says: of a commit, and of how much has come.

use crds::git::Commit;

/// The last figure of `Receiving objects:  45% (9/20), 120.00 MiB | 10.00 MiB/s`.
pub(super) fn received_bytes(words: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(words);
    let (_, rest) = text.rsplit_once("Receiving objects:")?;
    let (_, figures) = rest.split_once("), ")?;
    let mut figures = figures.split_whitespace();
    let (number, unit) = (figures.next()?, figures.next()?);
    let (whole, hundredths) = number.split_once('.').unwrap_or((number, "0"));
    let hundredths = whole.parse::<u64>().ok()?.checked_mul(100)? + hundredths.parse::<u64>().ok()?.min(99);
    let shift = ["bytes", "KiB", "MiB", "GiB"].iter().position(|known| *known == unit)?;
    Some((hundredths << (10 * shift)) / 100)
}

/// The answer to `git log -z --format=%H%x00%an%x00%cI%x00%s`; `None` if it is something else.
pub(super) fn parse_commit(said: &[u8]) -> Option<Commit> {
    let text = String::from_utf8_lossy(said);
    let mut fields = text.split('\0');
    let sha = fields.next()?.trim().to_owned();
    let hex = [40, 64].contains(&sha.len()) && sha.bytes().all(|b| b.is_ascii_hexdigit());
    // People see these: no control characters, and no more than a line holds.
    let short = |text: &str| -> String { text.chars().filter(|c| !c.is_control()).take(200).collect() };
    let author = short(fields.next()?);
    let time = Some(fields.next()?.to_owned()).filter(|time| time.parse::<jiff::Timestamp>().is_ok());
    let message = short(fields.next()?);
    hex.then_some(Commit { sha, message, author, time })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_what_git_says_and_no_more() {
        let said =
            b"0123456789abcdef0123456789abcdef01234567\0Ada \x1b[31mLovelace\x002026-11-22T20:00:00+01:00\0Fix it\n\0";
        let commit = parse_commit(said).unwrap();
        assert_eq!((commit.author.as_str(), commit.message.as_str()), ("Ada [31mLovelace", "Fix it"));
        assert_eq!(commit.time.as_deref(), Some("2026-11-22T20:00:00+01:00"));
        assert_eq!(parse_commit(b"fatal: not a repository"), None);
    }

    #[test]
    fn progress_tells_how_much_came() {
        let words = b"Receiving objects:   1% (1/99)\rReceiving objects:  45% (9/20), 1.20 GiB | 10.00 MiB/s\r";
        assert_eq!(received_bytes(words), Some(120 * (1 << 30) / 100));
        assert_eq!(received_bytes(b"Cloning into 'x'"), None);
    }
}
