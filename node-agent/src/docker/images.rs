//! Images that are here, and their way from a registry; which of them are remembered is in `pulls.rs`.

use std::collections::HashMap;

use bollard::query_parameters::{CreateImageOptions, ListImagesOptions, RemoveImageOptions};
use futures::TryStreamExt;

use super::{Docker, absent, convert, failure, gone};
use crate::clock;
use crate::machine::{Error, Image};

impl Docker {
    /// What this finds counts as used: it is not collected soon.
    pub(super) async fn inspect_image(&self, reference: &str) -> Result<Option<Image>, Error> {
        match self.api.inspect_image(reference).await {
            Ok(answer) => {
                self.pulls.used(reference, clock::now());
                Ok(Some(convert::image(answer)))
            }
            Err(error) => absent(error),
        }
    }

    pub(super) async fn pull_image(&self, reference: &str) -> Result<(), Error> {
        let options =
            CreateImageOptions { from_image: Some(convert::with_tag(reference)), ..CreateImageOptions::default() };
        let mut progress = self.slow.create_image(Some(options), None, None);
        while let Some(step) = progress.try_next().await.map_err(failure)? {
            if let Some(error) = step.error_detail {
                return Err(Error::Refused(error.message.unwrap_or_default()));
            }
        }
        self.pulls.fetched(reference, clock::now());
        Ok(())
    }

    pub(super) async fn untag(&self, reference: &str) -> Result<(), Error> {
        let options = RemoveImageOptions { force: false, ..RemoveImageOptions::default() };
        gone(self.api.remove_image(reference, Some(options), None).await.map(|_| ()))
    }

    pub(super) async fn list_images(&self, filters: HashMap<String, Vec<String>>) -> Result<Vec<Image>, Error> {
        let options = ListImagesOptions { filters: Some(filters), ..ListImagesOptions::default() };
        let listed = self.api.list_images(Some(options)).await.map_err(failure)?;
        Ok(listed.into_iter().map(convert::image_summary).collect())
    }
}
