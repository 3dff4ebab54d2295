//! When each branch is to be looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Time between two looks at a branch: short enough to be taken for a push, and 120 requests an hour to its forge.
const EVERY: Duration = Duration::from_secs(30);
/// The first pause after a failure; it doubles.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest pause after failures: whoever repairs a repository or a Secret waits no longer.
const PAUSE_MAX: Duration = Duration::from_mins(2);

/// A project's branch, and the Secret that signs in to its repository. Applications with the same are served by one look.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Branch {
    pub(super) namespace: String,
    pub(super) url: String,
    pub(super) name: String,
    pub(super) secret: Option<String>,
}

/// Looks of one project at the same time: half of all, so that a repository that does not answer holds up its owner.
const OF_ONE_PROJECT_MAX: usize = super::LOOK_UPS_MAX / 2;

/// All branches that are watched. There are no more than applications.
#[derive(Default)]
pub(super) struct Watches(BTreeMap<Branch, Watch>);

struct Watch {
    next: Instant,
    failures: u32,
    asked: bool,
    /// What asked for it; something new among it asks at once.
    wishes: Vec<String>,
}

impl Watches {
    /// Takes in which branches are wanted. New ones, and those that somebody new asks for, are due now.
    pub(super) fn follow(&mut self, wishes: &BTreeMap<Branch, Vec<String>>, now: Instant) {
        self.0.retain(|branch, _| wishes.contains_key(branch));
        for (branch, wishes) in wishes {
            let watch = self.0.entry(branch.clone()).or_insert_with(|| Watch {
                next: now,
                failures: 0,
                asked: false,
                wishes: Vec::new(),
            });
            if wishes.iter().any(|wish| !watch.wishes.contains(wish)) {
                watch.next = now;
                watch.failures = 0;
            }
            watch.wishes.clone_from(wishes);
        }
    }

    /// A branch whose time has come, of a project with the fewest under way. It is not given out again before
    /// [`Watches::answered`].
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Branch> {
        let mut under_way: BTreeMap<String, usize> = BTreeMap::new();
        for branch in self.0.iter().filter(|(_, watch)| watch.asked).map(|(branch, _)| branch) {
            *under_way.entry(branch.namespace.clone()).or_default() += 1;
        }
        let of = |branch: &Branch| under_way.get(&branch.namespace).copied().unwrap_or(0);
        let due = self
            .0
            .iter_mut()
            .filter(|(branch, watch)| !watch.asked && watch.next <= now && of(branch) < OF_ONE_PROJECT_MAX);
        let (branch, watch) = due.min_by_key(|(branch, watch)| (of(branch), watch.next))?;
        watch.asked = true;
        // What asks for it from now on may have come too late for this look.
        watch.next = now + EVERY + jitter(branch);
        Some(branch.clone())
    }

    /// Takes in that a look is over.
    pub(super) fn answered(&mut self, branch: &Branch, well: bool, now: Instant) {
        let Some(watch) = self.0.get_mut(branch) else { return };
        watch.asked = false;
        if well {
            watch.failures = 0;
        } else {
            let pause = PAUSE.saturating_mul(1 << watch.failures.min(10)).min(PAUSE_MAX);
            watch.failures += 1;
            // Unless somebody asked for it meanwhile.
            if watch.next > now {
                watch.next = now + pause + jitter(branch) / 4;
            }
        }
    }
}

/// Up to 4 s, different for each branch, so that they are not all looked at in the same moment.
fn jitter(branch: &Branch) -> Duration {
    let digits = crds::hash::short(&(&branch.url, &branch.name), 3);
    Duration::from_millis(u64::from_str_radix(&digits, 16).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(name: &str) -> Branch {
        let url = "https://git.example.com/a.git".to_owned();
        Branch { namespace: "acme".to_owned(), url, name: name.to_owned(), secret: None }
    }

    fn wishes(list: &[(&str, &str)]) -> BTreeMap<Branch, Vec<String>> {
        list.iter().map(|(name, wish)| (branch(name), vec![(*wish).to_owned()])).collect()
    }

    #[test]
    fn a_branch_is_looked_at_when_it_is_new_when_asked_for_and_every_half_minute() {
        let mut watches = Watches::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        watches.follow(&wishes(&[("main", "a")]), start);
        assert_eq!(watches.take_due(start), Some(branch("main")));
        assert_eq!(watches.take_due(after(60)), None, "it is being looked at");
        watches.answered(&branch("main"), true, after(1));
        assert_eq!(watches.take_due(after(29)), None);
        watches.follow(&wishes(&[("main", "deploy!")]), after(29));
        assert_eq!(watches.take_due(after(29)), Some(branch("main")), "somebody asked");
        watches.answered(&branch("main"), true, after(29));
        assert_eq!(watches.take_due(after(64)), Some(branch("main")));
        watches.follow(&wishes(&[]), after(64));
        watches.answered(&branch("main"), true, after(65));
        assert_eq!(watches.take_due(after(600)), None, "nobody wants it any more");
    }

    #[test]
    fn a_project_whose_repositories_do_not_answer_leaves_room_for_others() {
        let mut watches = Watches::default();
        let start = Instant::now();
        let mut all = wishes(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]);
        all.insert(Branch { namespace: "other".to_owned(), ..branch("z") }, vec!["1".to_owned()]);
        watches.follow(&all, start);
        let taken: Vec<Branch> = std::iter::from_fn(|| watches.take_due(start)).collect();
        let of = |namespace: &str| taken.iter().filter(|branch| branch.namespace == namespace).count();
        assert_eq!((of("acme"), of("other")), (OF_ONE_PROJECT_MAX, 1));
        watches.answered(&taken[0], true, start);
        assert!(watches.take_due(start).is_some(), "the next of them has its turn");
    }

    #[test]
    fn a_branch_that_cannot_be_read_is_asked_for_less_and_less_often() {
        let mut watches = Watches::default();
        let mut now = Instant::now();
        watches.follow(&wishes(&[("main", "a")]), now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert!(watches.take_due(now).is_some());
            watches.answered(&branch("main"), false, now);
            let asked = now;
            while watches.0[&branch("main")].next > now {
                now += Duration::from_secs(1);
            }
            pauses.push((now - asked).as_secs());
        }
        assert!(pauses[0] <= 7 && pauses.is_sorted() && *pauses.last().unwrap() <= 125, "{pauses:?}");
    }
}
