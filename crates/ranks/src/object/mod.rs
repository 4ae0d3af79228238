//! Values of any serde type as messages. The codec lives here and in `decoder.rs`, and nowhere else.

pub(crate) mod decoder;

use bincode::config::{Configuration, standard};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::address::{Destination, Source};
use crate::collective::{Collective, Kind};
use crate::engine::Caller;
use crate::engine::receives::Expected;
use crate::error::{Error, Result};
use crate::p2p::{Content, Mode};
use crate::status::Status;
use crate::world::World;

const CODEC: Configuration = standard();

fn encode<T: Serialize>(value: &T, caller: Caller) -> Result<Vec<u8>> {
    bincode::serde::encode_to_vec(value, CODEC).map_err(|error| codec(caller, error.to_string()))
}

fn decode<T: DeserializeOwned>(bytes: &[u8], caller: Caller) -> Result<T> {
    decoder::decode(bytes).map_err(|error| {
        let (length, name) = (bytes.len(), std::any::type_name::<T>());
        codec(caller, format!("the message of {length} bytes is no {name} ({error}); was another type sent?"))
    })
}

fn codec(caller: Caller, reason: String) -> Error {
    Error::Codec { operation: caller.operation, reason, at: caller.at }
}

impl World {
    /// Sends a copy of any value that serde can serialize. Blocks like [`World::send`] with a message of the encoded
    /// length.
    ///
    /// # Errors
    ///
    /// As [`World::send`], and [`Error::Codec`] if the value cannot be encoded.
    ///
    /// # MPI
    /// None; `MPI_Pack` and `MPI_Send` come nearest.
    ///
    /// # Examples
    ///
    /// ```
    /// ranks::spawn(2, |world| {
    ///     if world.rank() == 0 {
    ///         world.send_object(&("pressure".to_string(), vec![1.5, 2.5]), 1).unwrap();
    ///     } else {
    ///         let (object, status) = world.recv_object::<(String, Vec<f64>)>(0).unwrap();
    ///         assert_eq!((object.0.as_str(), object.1.len(), status.source), ("pressure", 2, 0));
    ///     }
    /// })?;
    /// # Ok::<(), ranks::Error>(())
    /// ```
    #[track_caller]
    pub fn send_object<T: Serialize>(&self, value: &T, to: impl Into<Destination>) -> Result<()> {
        let caller = Caller::new("send_object");
        let bytes = encode(value, caller)?;
        self.send_bytes(&bytes, Content::Object, to.into(), Mode::Standard, caller)
    }

    /// Receives a value that [`World::send_object`] has sent; blocks until there is one.
    ///
    /// # Errors
    ///
    /// As [`World::recv_vec`], and [`Error::Codec`] if the bytes are no `T`, if it is nested so deeply that decoding
    /// it takes more than 1 MiB of stack, or if it has more than 16 Mi elements that take no bytes, such as `()`.
    ///
    /// # MPI
    /// None; `MPI_Recv` and `MPI_Unpack` come nearest.
    #[track_caller]
    pub fn recv_object<T: DeserializeOwned>(&self, from: impl Into<Source>) -> Result<(T, Status)> {
        let caller = Caller::new("recv_object");
        let expected = Expected { element_type: 0, name: "an object (sent by send_object)", object: true };
        let (bytes, status) = self.recv_growing::<u8>(expected, from.into(), caller)?;
        Ok((decode(&bytes, caller)?, status))
    }

    /// Gives all ranks a copy of the value on `root`. Only the root's argument counts: there it has to be `Some`.
    /// Blocks like [`World::broadcast`].
    ///
    /// # Errors
    ///
    /// As [`World::broadcast_vec`], [`Error::Codec`], and [`Error::LengthMismatch`] if the root has no value.
    ///
    /// # MPI
    /// None; `MPI_Bcast` of a packed buffer comes nearest.
    #[track_caller]
    pub fn broadcast_object<T: Serialize + DeserializeOwned>(
        &self,
        value: Option<T>,
        root: usize,
    ) -> Result<T> {
        let collective = Collective::new::<u8>(self, Kind::BroadcastObject, Some(root), 0)?;
        let caller = collective.caller();
        if self.rank() != root {
            let mut bytes = Vec::new();
            collective.broadcast_vec(root, &mut bytes)?;
            return decode(&bytes, caller);
        }
        let Caller { operation, at } = caller;
        let missing =
            Error::LengthMismatch { operation, what: "the value on the root", found: 0, expected: 1, at };
        let value = value.ok_or(missing)?;
        collective.broadcast_vec(root, &mut encode(&value, caller)?)?;
        Ok(value)
    }

    /// Collects a value of every rank on `root`, in the order of the ranks; `None` elsewhere. Blocks like
    /// [`World::gather_varying`].
    ///
    /// # Errors
    ///
    /// As [`World::gather_varying`], and [`Error::Codec`].
    ///
    /// # MPI
    /// None; `MPI_Gatherv` of packed buffers comes nearest.
    #[track_caller]
    pub fn gather_object<T: Serialize + DeserializeOwned>(
        &self,
        value: &T,
        root: usize,
    ) -> Result<Option<Vec<T>>> {
        let collective = Collective::new::<u8>(self, Kind::GatherObject, Some(root), 0)?;
        let caller = collective.caller();
        let all = collective.gather_varying(&encode(value, caller)?, root)?;
        all.map(|all| all.parts().map(|part| decode(part, caller)).collect()).transpose()
    }
}
