//! Which of the images that were built on this node nothing needs any more.

use std::collections::BTreeMap;

use crate::labels;
use crate::machine::{Containers, Image};

/// Images kept of each application, newest first: as many releases as can be rolled back to.
const KEPT: usize = 10;

/// Removes what nothing needs. What cannot be removed now is another time.
pub(crate) async fn collect<C: Containers>(containers: &C, needed: &[String]) {
    let images = match containers.built_images().await {
        Ok(images) => images,
        Err(error) => {
            tracing::debug!(%error, "images cannot be listed");
            return;
        }
    };
    for reference in unneeded(&images, needed) {
        match containers.remove_image(&reference).await {
            Ok(()) => tracing::info!(reference, "removed an image that nothing needs"),
            Err(error) => tracing::debug!(reference, %error, "an image cannot be removed"),
        }
    }
}

/// The references, or ids where there is none, of images beyond the newest ten of their application that nothing needs.
fn unneeded(images: &[Image], needed: &[String]) -> Vec<String> {
    let mut by_application: BTreeMap<(&str, &str), Vec<&Image>> = BTreeMap::new();
    for image in images.iter().filter(|image| image.labels.contains_key(labels::BUILD)) {
        let label = |name: &str| image.labels.get(name).map_or("", String::as_str);
        by_application.entry((label(labels::NAMESPACE), label(labels::APPLICATION))).or_default().push(image);
    }
    let is_needed = |image: &&&Image| needed.iter().any(|name| *name == image.id || image.tags.contains(name));
    let mut remove = Vec::new();
    for mut images in by_application.into_values() {
        images.sort_by(|one, other| other.created.cmp(&one.created).then_with(|| one.id.cmp(&other.id)));
        for image in images.iter().skip(KEPT).filter(|image| !is_needed(image)) {
            if image.tags.is_empty() {
                remove.push(image.id.clone());
            } else {
                remove.extend(image.tags.iter().cloned());
            }
        }
    }
    remove
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn image(number: i64, build: bool) -> Image {
        let mut labels = BTreeMap::from([(labels::APPLICATION.to_owned(), "web".to_owned())]);
        if build {
            labels.insert(labels::BUILD.to_owned(), format!("b{number}"));
        }
        Image {
            id: format!("sha256:{number}"),
            tags: vec![format!("app:{number}")],
            labels,
            created: Timestamp::from_second(number).ok(),
            ..Image::default()
        }
    }

    #[test]
    fn the_newest_ten_and_the_needed_stay() {
        let images: Vec<Image> = (0..14).map(|number| image(number, true)).collect();
        let needed = ["app:1".to_owned(), "sha256:2".to_owned()];
        assert_eq!(unneeded(&images, &needed), ["app:3", "app:0"]);
    }

    #[test]
    fn images_of_others_stay() {
        let images: Vec<Image> = (0..14).map(|number| image(number, false)).collect();
        assert!(unneeded(&images, &[]).is_empty());
    }
}
