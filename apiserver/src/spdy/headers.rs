//! Header blocks: names and values, compressed with one zlib stream for all blocks of a direction.

use std::collections::BTreeMap;

use bytes::Buf;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::Error;
use super::dictionary::dictionary;

/// What a block may grow to: Kubernetes' have a few hundred bytes.
const BLOCK_BYTES_MAX: usize = 16 << 10;
/// What is written at a time while a block grows.
const STEP_BYTES: usize = 1024;

/// Reads the blocks of one direction, in order.
#[derive(Debug)]
pub struct HeaderReader(Decompress);

impl Default for HeaderReader {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl HeaderReader {
    /// The names, which are lower case, and values of a block. After an error no further block can be read.
    pub fn read(&mut self, block: &[u8]) -> Result<BTreeMap<String, String>, Error> {
        let plain = self.inflate(block)?;
        let mut rest = plain.as_slice();
        let pairs = number(&mut rest)?;
        let mut headers = BTreeMap::new();
        for _ in 0..pairs {
            // As many as the block is long at most: each takes eight bytes.
            let (name, value) = (text(&mut rest)?, text(&mut rest)?);
            if name.is_empty() || headers.insert(name, value).is_some() {
                return Err(Error::Headers("a name is empty or repeated"));
            }
        }
        if rest.is_empty() { Ok(headers) } else { Err(Error::Headers("there is more than was announced")) }
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, Error> {
        let mut plain = Vec::with_capacity(STEP_BYTES);
        let mut rest = block;
        loop {
            let before = (self.0.total_in(), self.0.total_out());
            let inflated = self.0.decompress_vec(rest, &mut plain, FlushDecompress::Sync);
            let taken = usize::try_from(self.0.total_in() - before.0).unwrap_or(rest.len());
            rest = rest.get(taken..).unwrap_or_default();
            if let Err(error) = inflated {
                if error.needs_dictionary().is_none() || self.0.set_dictionary(&dictionary()).is_err() {
                    return Err(Error::Headers("it is not compressed as it should be"));
                }
                continue;
            }
            if plain.len() > BLOCK_BYTES_MAX {
                return Err(Error::Headers("it is too long"));
            }
            if plain.len() == plain.capacity() {
                plain.reserve(STEP_BYTES);
            } else if rest.is_empty() {
                return Ok(plain);
            } else if before == (self.0.total_in(), self.0.total_out()) {
                return Err(Error::Headers("it does not end where it should"));
            }
        }
    }
}

fn number(rest: &mut &[u8]) -> Result<usize, Error> {
    if rest.len() < 4 {
        return Err(Error::Headers("it ends too early"));
    }
    Ok(usize::try_from(rest.get_u32()).unwrap_or(usize::MAX))
}

fn text(rest: &mut &[u8]) -> Result<String, Error> {
    let length = number(rest)?;
    let (text, after) = rest.split_at_checked(length).ok_or(Error::Headers("it ends too early"))?;
    *rest = after;
    String::from_utf8(text.to_vec()).map_err(|_other| Error::Headers("a text is not UTF-8"))
}

/// Writes the blocks of one direction, in order.
#[derive(Debug)]
pub struct HeaderWriter(Compress);

impl Default for HeaderWriter {
    fn default() -> Self {
        let mut compress = Compress::new(Compression::default(), true);
        compress.set_dictionary(&dictionary()).expect("a new stream takes a dictionary");
        Self(compress)
    }
}

impl HeaderWriter {
    /// A block of these headers, whose names must be lower case.
    pub fn write(&mut self, headers: &BTreeMap<String, String>) -> Vec<u8> {
        let mut plain = Vec::new();
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        plain.extend_from_slice(&length(headers.len()));
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&length(text.len()));
            plain.extend_from_slice(text.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + 64);
        let mut rest = plain.as_slice();
        loop {
            let before = self.0.total_in();
            let status = self.0.compress_vec(rest, &mut block, FlushCompress::Sync);
            let taken = usize::try_from(self.0.total_in() - before).unwrap_or(rest.len());
            rest = &rest[taken.min(rest.len())..];
            // With room left all was written; without, there may be more.
            if status.is_err() || (rest.is_empty() && block.len() < block.capacity()) {
                return block;
            }
            block.reserve(STEP_BYTES);
        }
    }
}
