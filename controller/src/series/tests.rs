//! A log is the same however often and in whatever order its pieces arrive.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Where the series of a test are; it can be opened again after it was closed.
enum Bed {
    Folder(std::path::PathBuf),
    /// The address of a database of its own.
    Postgres(String),
}

impl Bed {
    fn folder() -> Self {
        let path = std::env::temp_dir().join(format!("berth-series-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&path).unwrap();
        Self::Folder(path)
    }

    fn postgres() -> Self {
        Self::Postgres(script(&["create"]))
    }

    async fn open(&self) -> Series {
        match self {
            Self::Folder(path) => Series::open(path).await.unwrap(),
            Self::Postgres(url) => Series::connect(url).await.unwrap(),
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        match self {
            Self::Folder(path) => drop(std::fs::remove_dir_all(path)),
            Self::Postgres(url) => drop(script(&["drop", url])),
        }
    }
}

fn script(arguments: &[&str]) -> String {
    let mut command = std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/postgres"));
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

macro_rules! on_each_database {
    ($($name:ident)*) => {
        mod in_sqlite { $(#[tokio::test] async fn $name() { super::$name(super::Bed::folder()).await; })* }
        mod in_postgres { $(#[tokio::test] async fn $name() { super::$name(super::Bed::postgres()).await; })* }
    };
}

on_each_database! {
    overlaps_are_trimmed_gaps_refused_and_a_restart_forgets_nothing
    a_log_is_bounded_and_says_what_it_left_out
    logs_go_with_their_builds_and_followers_hear_of_more
    two_servers_that_get_the_same_piece_keep_it_once
}

async fn whole(series: &Series, build: &str) -> Vec<u8> {
    let mut text = Vec::new();
    let mut next = 0;
    loop {
        let part = series.read_build_log(build, next).await.unwrap();
        if part.text.is_empty() {
            return text;
        }
        text.extend(part.text);
        next = part.next;
    }
}

async fn overlaps_are_trimmed_gaps_refused_and_a_restart_forgets_nothing(bed: Bed) {
    let series = bed.open().await;
    assert_eq!(series.append_build_log("b", 0, b"one\n").await.unwrap(), 4);
    assert_eq!(series.append_build_log("b", 6, b"gap").await.unwrap(), 4, "a gap is not taken");
    assert_eq!(series.append_build_log("b", 0, b"one\ntwo\n").await.unwrap(), 8);
    assert_eq!(series.append_build_log("b", 4, b"two\n").await.unwrap(), 8);
    assert_eq!(series.append_build_log("b", u64::MAX, b"x").await.ok(), None);
    series.close().await;
    let series = bed.open().await;
    assert_eq!(whole(&series, "b").await, b"one\ntwo\n");
    assert_eq!(series.read_build_log("b", 5).await.unwrap().text, b"wo\n");
    assert_eq!(series.read_build_log("b", 8).await.unwrap(), BuildLog { next: 8, ..BuildLog::default() });
    assert_eq!(series.read_build_log("none", 0).await.unwrap(), BuildLog::default());
}

async fn a_log_is_bounded_and_says_what_it_left_out(bed: Bed) {
    let series = bed.open().await;
    let piece = vec![b'x'; 4 << 20];
    for number in 0..17 {
        let offset = number * piece.len() as u64;
        assert_eq!(series.append_build_log("b", offset, &piece).await.unwrap(), offset + piece.len() as u64);
    }
    let mut next = 0;
    let end = loop {
        let part = series.read_build_log("b", next).await.unwrap();
        if part.text.is_empty() {
            break part;
        }
        next = part.next;
    };
    assert_eq!((end.next, end.left_out), (BUILD_LOG_BYTES_MAX, 4 << 20));
}

async fn logs_go_with_their_builds_and_followers_hear_of_more(bed: Bed) {
    let series = bed.open().await;
    let mut follower = series.follow_build_log("kept");
    series.append_build_log("kept", 0, b"a").await.unwrap();
    series.append_build_log("gone", 0, b"a").await.unwrap();
    assert!(follower.has_changed().unwrap());
    follower.borrow_and_update();
    series.append_build_log("kept", 0, b"a").await.unwrap();
    assert!(!follower.has_changed().unwrap(), "nothing new");
    series.clear_build_logs(|| None).await.unwrap();
    assert_eq!(whole(&series, "gone").await, b"a");
    series.clear_build_logs(|| Some(BTreeSet::from(["kept".to_owned()]))).await.unwrap();
    assert_eq!((whole(&series, "kept").await, whole(&series, "gone").await), (b"a".to_vec(), Vec::new()));
}

async fn two_servers_that_get_the_same_piece_keep_it_once(bed: Bed) {
    let (one, other) = (bed.open().await, bed.open().await);
    for n in 0..20_u64 {
        let piece = format!("line {n:04}\n");
        let (offset, end) = (n * piece.len() as u64, (n + 1) * piece.len() as u64);
        let append = |series: &Series| {
            let (series, piece) = (series.clone(), piece.clone());
            async move { series.append_build_log("b", offset, piece.as_bytes()).await.unwrap() }
        };
        assert_eq!(tokio::join!(append(&one), append(&other)), (end, end));
    }
    let expected: Vec<String> = (0..20).map(|n| format!("line {n:04}\n")).collect();
    let expected = expected.concat();
    assert_eq!(whole(&one, "b").await, expected.as_bytes());
    assert_eq!(whole(&other, "b").await, expected.as_bytes());
    one.close().await;
    other.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_is_sent_again_the_log_is_what_was_written(
        text in proptest::collection::vec(any::<u8>(), 1..400),
        sends in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bed = Bed::folder();
            let series = bed.open().await;
            let mut kept = 0;
            for (from, length) in sends {
                let from = from.index(text.len());
                let end = from + length.index(text.len() - from + 1);
                let answer = series.append_build_log("b", from as u64, &text[from..end]).await.unwrap();
                let expected = if from as u64 <= kept { kept.max(end as u64) } else { kept };
                assert_eq!(answer, expected);
                kept = answer;
                assert_eq!(whole(&series, "b").await, &text[..usize::try_from(kept).unwrap()]);
            }
            // An agent that does as it is told gets everything through.
            while kept < text.len() as u64 {
                let from = usize::try_from(kept).unwrap();
                let end = (from + 7).min(text.len());
                kept = series.append_build_log("b", kept, &text[from..end]).await.unwrap();
            }
            assert_eq!(whole(&series, "b").await, text);
        });
    }
}
