//! What an engine offers to operations: memory, and a place to keep packed weights. What it *computes* is in
//! the traits of `ops/*/mod.rs` (`trait Linear: Backend`), each implemented beside its operation.

use crate::error::Result;
use crate::tensor::DType;
use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

/// An engine: the CPU, or one GPU.
pub trait Backend {
    /// A handle on device memory. A clone is another handle on the same memory.
    type Buffer: Buffer;

    /// New memory for `len` elements, contents unspecified.
    fn allocate(&self, dtype: DType, len: usize) -> Result<Self::Buffer>;
    /// New memory for `len` elements, all zero.
    fn zeros(&self, dtype: DType, len: usize) -> Result<Self::Buffer>;
    /// New memory that holds `bytes`.
    fn upload(&self, dtype: DType, bytes: &[u8]) -> Result<Self::Buffer>;
    /// Waits for what was asked for and copies it out; `into` has the buffer's size.
    fn download(&self, from: &Self::Buffer, into: &mut [u8]) -> Result<()>;
    /// New memory with elements `start .. start + len` of `from`.
    fn slice(&self, from: &Self::Buffer, start: usize, len: usize) -> Result<Self::Buffer>;
    /// New memory with `parts` one after the other; all of one dtype, at least one.
    fn concat(&self, parts: &[&Self::Buffer]) -> Result<Self::Buffer>;
    /// Writes all of `from` over all of `into`, in place, and gives `into` a new version.
    fn assign(&self, into: &Self::Buffer, from: &Self::Buffer) -> Result<()>;
}

/// What every engine's memory can say of itself.
pub trait Buffer: Clone + Send + Sync + 'static {
    /// element type
    fn dtype(&self) -> DType;
    /// number of elements
    fn len(&self) -> usize;
    /// true when there are no elements
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// identity, version and packed images
    fn stamp(&self) -> &Stamp;
}

/// Identity and version of a piece of memory, and the packed images of its present version. Every mutation
/// through any handle bumps the version, so neither a packed image nor a saved tensor can be stale unseen.
///
/// Writes that we do not see are kept apart by two marks: memory that was shown to somebody who may write to it
/// is copied when it is saved for backward, and memory that is saved is shown read-only.
#[derive(Debug)]
pub struct Stamp {
    id: u64,
    version: AtomicU64,
    shown: AtomicBool,
    saved: AtomicUsize,
    packed: Mutex<Vec<Image>>,
}

/// What an image is of, by its operation's own words, for which instruction set or device kind, and of which rows and
/// columns: tensors of several shapes may share one memory.
pub type ImageKind = (&'static str, u32, [usize; 2]);

/// (kind, version, image)
type Image = (ImageKind, u64, Arc<dyn Any + Send + Sync>);

impl Default for Stamp {
    fn default() -> Stamp {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Stamp {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            version: AtomicU64::new(0),
            shown: AtomicBool::new(false),
            saved: AtomicUsize::new(0),
            packed: Mutex::new(Vec::new()),
        }
    }
}

impl Stamp {
    /// Never the same for two pieces of memory of one process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// How many times the memory was written to in place.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Says that the memory was written to. Old packed images are dropped.
    pub fn bump(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        // those that stay are never found again: their version has gone
        if let Some(mut images) = self.images() {
            images.clear();
        }
    }

    /// Says that somebody outside is to have a view through which they may write. False where a backward call will
    /// read this memory: nobody gets such a view then.
    pub fn show(&self) -> bool {
        if self.saved.load(Ordering::SeqCst) > 0 {
            return false;
        }
        // both say their own before they look at the other's, so of two at once one sees the other (`save`)
        self.shown.store(true, Ordering::SeqCst);
        self.saved.load(Ordering::SeqCst) == 0
    }

    /// Whether somebody outside may write.
    pub fn is_shown(&self) -> bool {
        self.shown.load(Ordering::SeqCst)
    }

    /// Counts a backward call that will read this memory, which nobody is shown from now on; whether somebody was is
    /// to be asked after this.
    pub fn save(&self) {
        self.saved.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes one such count back.
    pub fn unsave(&self) {
        self.saved.fetch_sub(1, Ordering::AcqRel);
    }

    /// The image `kind` of the present version, if there is one.
    pub fn image<P: Any + Send + Sync>(&self, kind: ImageKind) -> Option<Arc<P>> {
        let version = self.version();
        let images = self.images()?;
        let found = images.iter().find(|(k, v, _)| *k == kind && *v == version);
        found.and_then(|(_, _, image)| image.clone().downcast().ok())
    }

    /// The image `kind` of the present version, made by `pack` if there is none yet. The operation names it, as
    /// `("linear", isa, sizes)`: so no list of kinds has to be kept.
    pub fn packed<P: Any + Send + Sync>(&self, kind: ImageKind, pack: impl FnOnce() -> Result<P>) -> Result<Arc<P>> {
        let version = self.version();
        if let Some(image) = self.image(kind) {
            return Ok(image);
        }
        let image = Arc::new(pack()?);
        if let Some(mut images) = self.images() {
            images.retain(|(k, v, _)| *k != kind && *v == version);
            images.push((kind, version, image.clone()));
        }
        Ok(image)
    }

    /// The images, unless somebody else has them for longer than a look takes: a thread that the child of a fork
    /// does not have would have them for ever.
    fn images(&self) -> Option<MutexGuard<'_, Vec<Image>>> {
        for turn in 0..1000 {
            match self.packed.try_lock() {
                Ok(images) => return Some(images),
                Err(TryLockError::Poisoned(e)) => return Some(e.into_inner()),
                Err(TryLockError::WouldBlock) if turn < 900 => std::hint::spin_loop(),
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_image_lives_as_long_as_its_version() {
        let stamp = Stamp::default();
        let pack = |n: u32, sizes| stamp.packed(("test", 7, sizes), move || Ok(n)).unwrap();
        assert_eq!((*pack(1, [2, 3]), *pack(2, [3, 2]), *pack(3, [2, 3]), *pack(4, [3, 2])), (1, 2, 1, 2));
        stamp.bump();
        assert_eq!(*pack(5, [2, 3]), 5);
        assert_ne!(stamp.id(), Stamp::default().id());
    }
}
