//! Going on with other master keys, and noting which of them something may be sealed with.

use jiff::Timestamp;

use super::super::Store;
use super::super::backend::{Backend, KnownKey};
use super::super::error::{BackendError, Error};
use super::super::writer::Request;
use super::key::{MasterKey, SealError};
use super::{Seal, Sealed};

impl<B: Backend> Sealed<B> {
    fn sealing(&self) -> Result<Seal, BackendError> {
        self.seal.clone().ok_or_else(|| SealError::NoKey.into())
    }

    /// Goes on with these keys. The first of them is noted before it seals anything, so that no server starts without it
    /// afterwards; and none is given up that something may be sealed with.
    pub(in super::super) async fn adopt(&mut self, keys: Vec<MasterKey>, now: Timestamp) -> Result<(), BackendError> {
        let seal = self.sealing()?;
        let primary = keys.first().ok_or(SealError::NoKey)?.id().to_owned();
        let known = self.inner.master_keys().await?;
        if let Some(missing) = known.iter().find(|known| keys.iter().all(|key| key.id() != known.id)) {
            return Err(SealError::Needed(missing.id.clone()).into());
        }
        self.note_if_new(primary, &known, now).await?;
        seal.keys.replace(keys)?;
        Ok(())
    }

    /// Makes sure that the key which seals is noted: another server that believed it unused may have forgotten it. Returns
    /// its id.
    pub(in super::super) async fn note_primary(&mut self, now: Timestamp) -> Result<String, BackendError> {
        let primary = self.sealing()?.keys.primary()?.id().to_owned();
        let known = self.inner.master_keys().await?;
        if self.note_if_new(primary.clone(), &known, now).await? {
            tracing::warn!(primary, "the master key that this server seals with was not noted as needed, and is now");
        }
        Ok(primary)
    }

    async fn note_if_new(&mut self, id: String, known: &[KnownKey], now: Timestamp) -> Result<bool, BackendError> {
        let new = known.iter().all(|key| key.id != id);
        if new {
            self.inner.save_master_key(&KnownKey { id, created: now, complete: true }).await?;
        }
        Ok(new)
    }

    /// Forgets keys that nothing is sealed with any more, unless the one that everything was brought to is not the first
    /// any more: then what was written since is sealed with another.
    pub(in super::super) async fn forget(&mut self, primary: &str, older: &[String]) -> Result<(), BackendError> {
        if self.sealing()?.keys.primary()?.id() != primary {
            return Err(SealError::Replaced.into());
        }
        for id in older {
            self.inner.forget_master_key(id).await?;
        }
        Ok(())
    }
}

impl Store {
    /// Goes on with other master keys, the one to seal with first. Those that are needed must be among them.
    pub async fn replace_keys(&self, keys: Vec<MasterKey>) -> Result<(), Error> {
        self.ask(|answer| Request::AdoptKeys { keys, answer }).await
    }

    /// Makes sure that the master key which this server seals with is known to be needed. Returns its id.
    pub async fn note_key(&self) -> Result<String, Error> {
        self.ask(|answer| Request::NoteKey { answer }).await
    }
}
