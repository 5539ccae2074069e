//! [`Recorder`]: records the path to the field that fails, or nothing.

use std::{any::type_name, cell::Cell};

use super::trail::Trail;

/// Records the path to the field that fails in a pass over serialized input, or nothing.
///
/// It is a type parameter, so that a pass that records nothing has no code for it.
pub(super) trait Recorder: Default {
    /// A place in a container.
    type Place: Copy + Default;

    /// Returns the place before the first field of a struct.
    fn first(fields: &'static [&'static str]) -> Self::Place;

    /// Moves to the next element, and returns the place of the current one.
    fn advance(place: &mut Self::Place) -> Self::Place;

    /// Records `name`, which the input has in place of a field's name.
    fn record_key(&self, place: Self::Place, name: &str);

    /// Moves to the field whose name was recorded last.
    fn move_to_key(&self, place: &mut Self::Place);

    /// Adds the element at `place`, of type `T`, to the path of the failure.
    fn note<T>(&self, place: Self::Place);
}

/// Records nothing.
impl Recorder for () {
    type Place = ();

    #[inline]
    fn first(_: &'static [&'static str]) {}

    #[inline]
    fn advance((): &mut ()) {}

    #[inline]
    fn record_key(&self, (): (), _: &str) {}

    #[inline]
    fn move_to_key(&self, (): &mut ()) {}

    #[inline]
    fn note<T>(&self, (): ()) {}
}

/// Records the path to the field that fails.
#[derive(Default)]
pub(super) struct PathRecorder {
    pub(super) trail: Trail,
    /// The index of the field whose name was read last.
    key: Cell<Option<usize>>,
}

/// A place in a container: the index of an element.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ElementPlace {
    /// The names of the fields, if the container is a struct.
    fields: &'static [&'static str],
    index: usize,
}

impl Recorder for PathRecorder {
    type Place = ElementPlace;

    fn first(fields: &'static [&'static str]) -> ElementPlace {
        ElementPlace { fields, index: 0 }
    }

    fn advance(place: &mut ElementPlace) -> ElementPlace {
        let current = *place;
        place.index += 1;
        current
    }

    fn record_key(&self, place: ElementPlace, name: &str) {
        if !place.fields.is_empty() {
            self.key.set(place.fields.iter().position(|field| *field == name));
        }
    }

    fn move_to_key(&self, place: &mut ElementPlace) {
        place.index = self.key.take().unwrap_or(usize::MAX);
    }

    fn note<T>(&self, place: ElementPlace) {
        self.trail.note(place.fields.get(place.index).copied().unwrap_or("[]"), type_name::<T>());
    }
}
