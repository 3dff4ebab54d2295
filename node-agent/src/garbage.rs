//! Which of the images that were built on this node nothing needs any more.

use std::collections::BTreeSet;

use crate::labels;
use crate::machine::{Containers, Image};

/// What images are needed for.
#[derive(Debug, Default)]
pub(crate) struct Needed {
    /// Uids of builds whose images the platform wants kept, or that are under way.
    pub(crate) builds: BTreeSet<String>,
    /// References and ids of images that instances are made of.
    pub(crate) images: BTreeSet<String>,
}

/// Removes what nothing needs. Returns whether something that nothing needs is still there.
pub(crate) async fn collect<C: Containers>(containers: &C, needed: &Needed) -> bool {
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
    for reference in &unneeded {
        match containers.remove_image(reference).await {
            Ok(()) => tracing::info!(reference, "removed an image that nothing needs"),
            Err(error) => tracing::debug!(reference, %error, "an image cannot be removed"),
        }
    }
    !unneeded.is_empty()
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
        let needed = Needed { builds: set(&["kept"]), images: set(&["app:4", "sha256:5"]) };
        assert_eq!(unneeded(&images, &needed), ["app:2", "app:two", "sha256:3"]);
        assert!(unneeded(&images[5..], &Needed::default()).is_empty(), "an image without our label is not ours");
    }
}
