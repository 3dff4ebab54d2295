//! Which images nothing needs any more: those that were built on this node, what failed builds left, and those that were
//! fetched for customers.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::desired::{self, Desired};
use crate::labels;
use crate::machine::{Containers, Image};
use crate::observed::Observed;

/// How long what costs only time to make or fetch again is kept after its last use: who builds or deploys daily waits
/// for nothing.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// What images are needed for.
#[derive(Debug, Default)]
pub(crate) struct Needed {
    /// Uids of builds whose images the platform wants kept, or that are under way.
    pub(crate) builds: BTreeSet<String>,
    /// References and ids of images that instances are made of.
    pub(crate) images: BTreeSet<String>,
    /// Whether a build may be under way, which goes on from what earlier ones left.
    pub(crate) building: bool,
    /// The moment.
    pub(crate) now: Timestamp,
}

impl Needed {
    /// What is needed now, by what should run and what does.
    pub(crate) fn of(desired: &Desired, observed: &Observed, now: Timestamp) -> Self {
        let mut builds = desired.images.clone();
        builds.extend(desired.builds.keys().cloned());
        let mut images: BTreeSet<String> =
            observed.containers.values().map(|container| container.image.clone()).collect();
        for task in desired.instances.values() {
            images.extend([task.image.clone(), desired::image_key(task)]);
        }
        Self { builds, images, building: !desired.builds.is_empty(), now }
    }
}

/// Removes what nothing needs. Returns whether something that nothing needs is still there.
pub(crate) async fn collect<C: Containers>(containers: &C, needed: &Needed) -> bool {
    if !needed.building {
        discard(containers, needed).await;
    }
    let before = remove(containers, needed).await;
    // An image goes only when the ones made from it have gone, and those stood in the same list.
    before && remove(containers, needed).await
}

async fn remove<C: Containers>(containers: &C, needed: &Needed) -> bool {
    let images = match containers.built_images().await {
        Ok(images) => images,
        Err(error) => {
            tracing::debug!(%error, "images cannot be listed");
            return true;
        }
    };
    let unneeded = unneeded(&images, needed);
    remove_all(containers, &unneeded).await;
    !unneeded.is_empty()
}

async fn remove_all<C: Containers>(containers: &C, references: &[String]) {
    for reference in references {
        match containers.remove_image(reference).await {
            Ok(()) => tracing::info!(reference, "removed an image that nothing needs"),
            Err(error) => tracing::debug!(reference, %error, "an image cannot be removed"),
        }
    }
}

/// Removes what was left and what was fetched, and has been of no use for a while.
async fn discard<C: Containers>(containers: &C, needed: &Needed) {
    let mut old = unused(&containers.pulled_images(), needed);
    match containers.unfinished_images().await {
        Ok(images) => old.extend(unfinished(&images, needed)),
        Err(error) => tracing::debug!(%error, "images cannot be listed"),
    }
    remove_all(containers, &old).await;
}

/// References of images that were fetched and that no instance and no build of late was made from.
fn unused(pulled: &BTreeMap<String, Timestamp>, needed: &Needed) -> Vec<String> {
    let old = pulled.iter().filter(|(_, used)| needed.now.duration_since(**used) >= KEPT);
    old.map(|(reference, _)| reference.clone()).filter(|reference| !needed.images.contains(reference)).collect()
}

/// Ids of images that a failed build left a while ago.
fn unfinished(images: &[Image], needed: &Needed) -> Vec<String> {
    let old = |made: Timestamp| needed.now.duration_since(made) >= KEPT;
    let left = images.iter().filter(|image| image.tags.is_empty() && image.created.is_some_and(old));
    left.map(|image| image.id.clone()).filter(|id| !needed.images.contains(id)).collect()
}

/// The references, or ids where there is none, of images that nothing needs.
fn unneeded(images: &[Image], needed: &Needed) -> Vec<String> {
    let is_needed = |image: &Image| {
        image.labels.get(labels::BUILD).is_none_or(|build| needed.builds.contains(build))
            || needed.images.contains(&image.id)
            || image.tags.iter().any(|tag| needed.images.contains(tag))
    };
    let mut remove = Vec::new();
    for image in images.iter().filter(|image| !is_needed(image)) {
        if image.tags.is_empty() {
            remove.push(image.id.clone());
        } else {
            remove.extend(image.tags.iter().cloned());
        }
    }
    remove
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn image(number: u32, build: Option<&str>, tags: &[&str]) -> Image {
        Image {
            id: format!("sha256:{number}"),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            labels: build.map(|uid| (labels::BUILD.to_owned(), uid.to_owned())).into_iter().collect::<BTreeMap<_, _>>(),
            ..Image::default()
        }
    }

    fn set(items: &[&str]) -> BTreeSet<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn what_a_build_or_an_instance_needs_stays_and_what_is_not_ours_too() {
        let images = [
            image(1, Some("kept"), &["app:1"]),
            image(2, Some("gone"), &["app:2", "app:two"]),
            image(3, Some("gone"), &[]),
            image(4, Some("runs"), &["app:4"]),
            image(5, Some("runs-by-id"), &["app:5"]),
            image(6, None, &["theirs:1"]),
        ];
        let needed = Needed { builds: set(&["kept"]), images: set(&["app:4", "sha256:5"]), ..Needed::default() };
        assert_eq!(unneeded(&images, &needed), ["app:2", "app:two", "sha256:3"]);
        assert!(unneeded(&images[5..], &Needed::default()).is_empty(), "an image without our label is not ours");
    }

    #[test]
    fn what_was_fetched_or_left_stays_for_a_day_after_its_last_use() {
        let at = |hours: i64| Timestamp::from_second(hours * 3600).unwrap();
        let needed = Needed { images: set(&["runs:1"]), now: at(100), ..Needed::default() };
        let pulled = [("runs:1", 1), ("new:1", 77), ("old:1", 76)];
        let pulled = pulled.map(|(reference, used)| (reference.to_owned(), at(used)));
        assert_eq!(unused(&BTreeMap::from(pulled), &needed), ["old:1"]);
        let left = |number, tags: &[&str], made| Image { created: Some(at(made)), ..image(number, None, tags) };
        let images = [left(1, &[], 77), left(2, &[], 76), left(3, &["base:1"], 1)];
        assert_eq!(unfinished(&images, &needed), ["sha256:2"]);
    }
}
