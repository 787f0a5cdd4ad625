//! Frames that wait for their next hop to say where it is: one for each neighbour.

use krono_core::packet::Side;
use krono_core::router::NeighbourId;
use krono_io::Mbuf;

/// The frames that a worker holds, complete but for the address of their next hop.
pub(crate) struct Held {
    frames: Box<[Option<(Side, Mbuf)>]>,
}

impl Held {
    /// Room for one frame for each of so many neighbours.
    pub(crate) fn new(neighbours: usize) -> Self {
        Held { frames: (0..neighbours).map(|_| None).collect() }
    }

    /// Holds a frame; returns the one that waited for the same neighbour before.
    pub(crate) fn put(&mut self, neighbour: NeighbourId, side: Side, mbuf: Mbuf) -> Option<Mbuf> {
        self.frames[neighbour.index()].replace((side, mbuf)).map(|(_, mbuf)| mbuf)
    }

    /// The frame that waits for a neighbour.
    pub(crate) fn take(&mut self, neighbour: NeighbourId) -> Option<(Side, Mbuf)> {
        self.frames[neighbour.index()].take()
    }

    /// All frames, at the end.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Mbuf> + '_ {
        self.frames.iter_mut().filter_map(|frame| frame.take().map(|(_, mbuf)| mbuf))
    }
}
