//! How the instances of one release give way to those of another. Pure, and knows nothing of kinds: slots in, moves out.

/// A place that is taken by an instance that nobody asked to go yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// What it is to the target release.
    pub(super) kind: SlotKind,
    /// Whether it answers and gets requests.
    pub(super) available: bool,
}

/// What an instance is to the target release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotKind {
    /// It is what is wanted.
    Current,
    /// It is to be replaced: of another release, or on a node that is being emptied.
    Old,
    /// It has failed for good.
    Failed {
        /// Whether it is of the target release.
        current: bool,
        /// Whether another may be tried in its place.
        due: bool,
    },
    /// Its node is given up; it may still run there.
    Lost,
}

/// How many there should be, and how far the number may stray meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Goal {
    pub(super) wanted: usize,
    /// How many more there may be.
    pub(super) surge: usize,
    /// How many may be missing.
    pub(super) unavailable: usize,
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Moves {
    /// How many instances of the target release to make.
    pub(super) create: usize,
    /// Positions of the slots to give up.
    pub(super) delete: Vec<usize>,
}

impl Goal {
    /// How many must stay available. The last one stays in any case where there may be one more beside it.
    fn least(self) -> usize {
        let least = self.wanted.saturating_sub(self.unavailable);
        if self.surge > 0 { least.max(self.wanted.min(1)) } else { least }
    }
}

/// The next moves towards the goal. Slots stand in the order in which they are kept: the last goes first.
pub(super) fn moves(goal: Goal, slots: &[Slot]) -> Moves {
    let positions = |matches: &dyn Fn(&Slot) -> bool| -> Vec<usize> {
        (0..slots.len()).rev().filter(|position| matches(&slots[*position])).collect()
    };
    let count = |matches: &dyn Fn(&Slot) -> bool| slots.iter().filter(|slot| matches(slot)).count();
    let current = count(&|slot| slot.kind == SlotKind::Current);
    let current_available = count(&|slot| slot.kind == SlotKind::Current && slot.available);
    let old = count(&|slot| slot.kind == SlotKind::Old);
    let available = current_available + count(&|slot| slot.kind == SlotKind::Old && slot.available);
    let alive = current + old;
    // A failed one keeps its place until another may be tried.
    let waiting = count(&|slot| slot.kind == SlotKind::Failed { current: true, due: false });

    let missing = goal.wanted.saturating_sub(current + waiting);
    let room = (goal.wanted + goal.surge).saturating_sub(alive);
    let create = missing.min(room);

    let mut delete = positions(&|slot| match slot.kind {
        SlotKind::Failed { current, due } => !current || due,
        // It may come back well, so it stays until it is not needed any more.
        SlotKind::Lost => current_available >= goal.wanted,
        SlotKind::Current | SlotKind::Old => false,
    });
    // Too many of the right ones: those that do not answer go first.
    let surplus = current.saturating_sub(goal.wanted);
    let mut ones = positions(&|slot| slot.kind == SlotKind::Current && !slot.available);
    ones.extend(positions(&|slot| slot.kind == SlotKind::Current && slot.available));
    delete.extend(ones.into_iter().take(surplus));
    let idle = (current + waiting).saturating_sub(goal.wanted);
    let failed = positions(&|slot| slot.kind == SlotKind::Failed { current: true, due: false });
    delete.extend(failed.into_iter().take(idle));

    if goal.wanted == 0 {
        delete.extend(positions(&|slot| slot.kind == SlotKind::Old));
    } else {
        // New ones that do not answer yet count as missing: what is old stands in for them.
        let starting = current.min(goal.wanted).saturating_sub(current_available);
        let mut spare = alive.saturating_sub(surplus).saturating_sub(goal.least() + starting);
        for position in positions(&|slot| slot.kind == SlotKind::Old && !slot.available).into_iter().take(spare) {
            delete.push(position);
            spare -= 1;
        }
        let spare = spare.min(available.saturating_sub(goal.least()));
        delete.extend(positions(&|slot| slot.kind == SlotKind::Old && slot.available).into_iter().take(spare));
    }
    delete.sort_unstable();
    delete.dedup();
    Moves { create, delete }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `c` current, `o` old, in capitals when available; `x` failed and due, `w` failed and waiting, `f` failed of
    /// another release, `l` lost.
    fn slots(text: &str) -> Vec<Slot> {
        let slot = |letter: char| Slot {
            available: letter.is_ascii_uppercase(),
            kind: match letter.to_ascii_lowercase() {
                'c' => SlotKind::Current,
                'o' => SlotKind::Old,
                'x' => SlotKind::Failed { current: true, due: true },
                'w' => SlotKind::Failed { current: true, due: false },
                'f' => SlotKind::Failed { current: false, due: true },
                'l' => SlotKind::Lost,
                other => panic!("{other} is no slot"),
            },
        };
        text.chars().map(slot).collect()
    }

    fn goal(wanted: usize, surge: usize, unavailable: usize) -> Goal {
        Goal { wanted, surge, unavailable }
    }

    #[test]
    fn stories() {
        let check = |goal: Goal, text: &str, create: usize, delete: &[usize]| {
            assert_eq!(moves(goal, &slots(text)), Moves { create, delete: delete.to_vec() }, "{goal:?} {text}");
        };
        let one = goal(1, 1, 0);
        check(one, "", 1, &[]);
        check(one, "O", 1, &[]);
        check(one, "Oc", 0, &[]);
        check(one, "OC", 0, &[0]);
        check(one, "C", 0, &[]);
        check(one, "oC", 0, &[0]);
        check(one, "w", 0, &[]);
        check(one, "x", 1, &[0]);
        check(one, "Of", 1, &[1]);
        check(one, "l", 1, &[]);
        check(one, "lC", 0, &[0]);
        let three = goal(3, 1, 0);
        check(three, "OOO", 1, &[]);
        check(three, "OOOC", 0, &[2]);
        check(three, "OOC", 1, &[]);
        check(three, "CCCcC", 0, &[3, 4]);
        check(goal(3, 0, 1), "OOO", 0, &[2]);
        check(goal(3, 0, 1), "OO", 1, &[]);
        check(goal(1, 0, 1), "O", 0, &[0]);
        check(goal(0, 1, 0), "OC", 0, &[0, 1]);
        check(goal(0, 1, 0), "w", 0, &[0]);
        check(one, "wC", 0, &[0]);
    }

    fn any_slots() -> impl Strategy<Value = Vec<Slot>> {
        proptest::collection::vec(proptest::sample::select("cCoOxwflcCoO".chars().collect::<Vec<_>>()), 0..12)
            .prop_map(|letters| slots(&letters.iter().collect::<String>()))
    }

    proptest! {
        #[test]
        fn never_too_many_and_never_too_few(
            wanted in 0_usize..6, surge in 0_usize..4, unavailable in 0_usize..4, slots in any_slots(),
        ) {
            prop_assume!(surge + unavailable > 0);
            let goal = goal(wanted, surge, unavailable);
            let moves = moves(goal, &slots);
            let alive = |slot: &Slot| matches!(slot.kind, SlotKind::Current | SlotKind::Old);
            let before = slots.iter().filter(|slot| alive(slot)).count();
            let kept: Vec<Slot> = (0..slots.len())
                .filter(|position| !moves.delete.contains(position)).map(|position| slots[position]).collect();
            prop_assert!(before + moves.create <= (wanted + surge).max(before), "the surge is kept to");
            let available = |slots: &[Slot]| slots.iter().filter(|slot| alive(slot) && slot.available).count();
            let floor = available(&slots).min(if surge > 0 { wanted.saturating_sub(unavailable).max(wanted.min(1)) }
                else { wanted.saturating_sub(unavailable) });
            prop_assert!(available(&kept) >= floor, "what must answer still does");
        }

        /// From any state, with every new instance becoming available after a while, the goal is reached and kept.
        #[test]
        fn the_goal_is_reached_and_stays(
            wanted in 0_usize..6, surge in 0_usize..4, unavailable in 0_usize..4, mut slots in any_slots(),
        ) {
            prop_assume!(surge + unavailable > 0);
            let goal = goal(wanted, surge, unavailable);
            for _round in 0..60 {
                let moves = moves(goal, &slots);
                let mut next: Vec<Slot> = (0..slots.len())
                    .filter(|position| !moves.delete.contains(position)).map(|position| slots[position]).collect();
                // The oldest that does not answer yet begins to; a failed one's time comes.
                if let Some(slot) = next.iter_mut().find(|slot| slot.kind == SlotKind::Current && !slot.available) {
                    slot.available = true;
                }
                if let Some(slot) = next.iter_mut().find(|s| matches!(s.kind, SlotKind::Failed { .. })) {
                    slot.kind = SlotKind::Failed { current: true, due: true };
                }
                next.extend((0..moves.create).map(|_| Slot { kind: SlotKind::Current, available: false }));
                slots = next;
            }
            let goal_state = vec![Slot { kind: SlotKind::Current, available: true }; wanted];
            prop_assert_eq!(&slots, &goal_state);
            prop_assert_eq!(moves(goal, &slots), Moves::default());
        }
    }
}
