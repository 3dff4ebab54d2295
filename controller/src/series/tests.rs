//! A log is the same however often and in whatever order its pieces arrive.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("berth-series-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
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

#[tokio::test]
async fn overlaps_are_trimmed_gaps_refused_and_a_restart_forgets_nothing() {
    let folder = Folder::new();
    let series = Series::open(&folder.0).await.unwrap();
    assert_eq!(series.append_build_log("b", 0, b"one\n").await.unwrap(), 4);
    assert_eq!(series.append_build_log("b", 6, b"gap").await.unwrap(), 4, "a gap is not taken");
    assert_eq!(series.append_build_log("b", 0, b"one\ntwo\n").await.unwrap(), 8);
    assert_eq!(series.append_build_log("b", 4, b"two\n").await.unwrap(), 8);
    assert_eq!(series.append_build_log("b", u64::MAX, b"x").await.ok(), None);
    series.close().await;
    let series = Series::open(&folder.0).await.unwrap();
    assert_eq!(whole(&series, "b").await, b"one\ntwo\n");
    assert_eq!(series.read_build_log("b", 5).await.unwrap().text, b"wo\n");
    assert_eq!(series.read_build_log("b", 8).await.unwrap(), BuildLog { next: 8, ..BuildLog::default() });
    assert_eq!(series.read_build_log("none", 0).await.unwrap(), BuildLog::default());
}

#[tokio::test]
async fn a_log_is_bounded_and_says_what_it_left_out() {
    let folder = Folder::new();
    let series = Series::open(&folder.0).await.unwrap();
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

#[tokio::test]
async fn logs_go_with_their_builds_and_followers_hear_of_more() {
    let folder = Folder::new();
    let series = Series::open(&folder.0).await.unwrap();
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_is_sent_again_the_log_is_what_was_written(
        text in proptest::collection::vec(any::<u8>(), 1..400),
        sends in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = Folder::new();
            let series = Series::open(&folder.0).await.unwrap();
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
