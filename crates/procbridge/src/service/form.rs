//! The forms of handlers: their arguments, and what they return. The types only distinguish implementations of a trait.

use std::marker::PhantomData;

/// `fn() -> R`
#[derive(Debug)]
pub struct Nothing;
/// `fn(&Call) -> R`
#[derive(Debug)]
pub struct Context;
/// `fn(T) -> R`
#[derive(Debug)]
pub struct Payload<T>(PhantomData<fn(T)>);
/// `fn(&Call, T) -> R`
#[derive(Debug)]
pub struct ContextAndPayload<T>(PhantomData<fn(T)>);
/// `fn(&S) -> R`
#[derive(Debug)]
pub struct State;
/// `fn(&S, T) -> R`
#[derive(Debug)]
pub struct StateAndPayload<T>(PhantomData<fn(T)>);
/// `fn(&S, &Call, T) -> R`
#[derive(Debug)]
pub struct StateContextAndPayload<T>(PhantomData<fn(T)>);

/// A value that serde writes.
#[derive(Debug)]
pub struct Value;
/// A `Result` with an error of this kind.
#[derive(Debug)]
pub struct Fallible<Kind>(PhantomData<Kind>);
/// An error of a type to which the program gives `IntoReplyError`.
#[derive(Debug)]
pub struct Own;
/// An error of a type that has `std::error::Error`.
#[derive(Debug)]
pub struct StdError;
/// A `Box<dyn Error + Send + Sync>`.
#[derive(Debug)]
pub struct Boxed;
/// An `anyhow::Error`.
#[cfg(feature = "anyhow")]
#[derive(Debug)]
pub struct Anyhow;
/// A `ReplyError`.
#[derive(Debug)]
pub struct Reply;
