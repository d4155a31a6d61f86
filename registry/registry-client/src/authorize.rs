//! What a request shows of who asks: nothing, a password, or a token, and another one when
//! that was refused.

use http::HeaderValue;

use crate::challenge::{self, Challenge};
use crate::credentials::{CredentialRequest, Credentials};
use crate::error::{At, Error};
use crate::remote::{Contact, Remote};
use crate::scope::Scopes;
use crate::session::{Call, Reply, Session};
use crate::token::{self, TokenRequest};

/// What a request shows of who asks.
pub(crate) struct Proof {
    pub(crate) value: Option<HeaderValue>,
    /// Whether another attempt to get one would be no better.
    pub(crate) fresh: bool,
}

/// What a host wants to see, and of which request.
pub(crate) struct Demand<'a> {
    pub(crate) remote: &'a Remote,
    pub(crate) contact: &'a Contact,
    pub(crate) challenges: &'a [Challenge],
    pub(crate) call: &'a Call<'a>,
    pub(crate) at: &'a At,
    /// What was shown and not accepted.
    pub(crate) rejected: Option<&'a HeaderValue>,
}

impl Session {
    /// Something better to show after a refusal, if there is any.
    pub(crate) async fn renew(
        &self,
        remote: &Remote,
        contact: &Contact,
        call: &Call<'_>,
        at: &At,
        reply: &Reply,
        proof: &Proof,
    ) -> Result<Option<HeaderValue>, Error> {
        let mut challenges = challenge::of_headers(&reply.headers);
        match reply.status {
            401 => {}
            // Rights may have been granted since a kept token was given.
            403 if !proof.fresh && challenges.is_empty() => {
                challenges.clone_from(&contact.challenges);
            }
            _ => return Ok(None),
        }
        let wanted = scopes_of(&challenges, call.scopes);
        let hopeless = proof.fresh && proof.value.is_some() && wanted == *call.scopes;
        if challenges.is_empty() || hopeless {
            return Ok(None);
        }
        remote.heard(challenges.clone()).await;
        let again = Call { scopes: &wanted, ..call.clone() };
        let rejected = proof.value.as_ref();
        let call = &again;
        let demand = Demand { remote, contact, challenges: &challenges, call, at, rejected };
        let better = self.prove(&demand).await?;
        let better = better.and_then(|better| better.value);
        Ok(better.filter(|value| Some(value) != proof.value.as_ref()))
    }

    /// What to show. Nothing where a host let everybody in at first and then
    /// does not accept who asks: what is told is its own refusal, as docker tells it.
    pub(crate) async fn prove(&self, demand: &Demand<'_>) -> Result<Option<Proof>, Error> {
        match self.answer(demand).await {
            Err(error) if demand.contact.open && is_about_who_asks(&error) => {
                tracing::debug!("showing nothing: {error}");
                Ok(None)
            }
            proof => proof.map(Some),
        }
    }

    async fn answer(&self, demand: &Demand<'_>) -> Result<Proof, Error> {
        let &Demand { remote, contact, challenges, call, at, rejected } = demand;
        let known = challenges.iter().any(|c| c.is("bearer") || c.is("basic"));
        if !known && !challenges.is_empty() {
            return Ok(Proof { value: None, fresh: true });
        }
        let credentials = if challenges.is_empty() {
            Credentials::Anonymous
        } else {
            self.credentials(remote, challenges, at, rejected.is_some()).await?
        };
        if let Credentials::RegistryToken(token) = &credentials {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
            let mut value =
                value.map_err(|_| Error::protocol(at.clone(), "malformed registry token"))?;
            value.set_sensitive(true);
            return Ok(Proof { value: Some(value), fresh: true });
        }
        let basic = credentials.basic();
        for challenge in challenges {
            if challenge.is("bearer") {
                let request = TokenRequest {
                    challenge,
                    scopes: call.scopes,
                    credentials: &credentials,
                    user_agent: self.user_agent(),
                    timeout: self.client.config.timeouts.answer,
                    at,
                };
                let tokens = &self.client.tokens;
                let granted =
                    token::token(tokens, remote, &contact.base, &request, rejected).await?;
                return Ok(Proof { value: Some(granted.value), fresh: granted.fresh });
            }
            let other = challenges.iter().any(|c| c.is("bearer"));
            if challenge.is("basic") && (basic.is_some() || !other) {
                let value = basic.ok_or_else(|| Error::NoCredentials { at: at.clone() })?;
                return Ok(Proof { value: Some(value), fresh: true });
            }
        }
        Ok(Proof { value: None, fresh: false })
    }

    /// The credentials for a host; the source is asked once, and again after a refusal.
    async fn credentials(
        &self,
        remote: &Remote,
        challenges: &[Challenge],
        at: &At,
        refused: bool,
    ) -> Result<Credentials, Error> {
        let mut known = self.found.credentials.lock().await;
        if let Some(credentials) = known.get(&remote.host.authority).filter(|_| !refused) {
            return Ok(credentials.clone());
        }
        let request = CredentialRequest {
            registry: &self.registry,
            host: &remote.host.authority,
            upstream: remote.host.upstream,
            challenges,
        };
        let found = self.credentials.credentials(request).await;
        let found =
            found.map_err(|why| Error::protocol(at.clone(), format!("no credentials: {why}")))?;
        known.insert(remote.host.authority.clone(), found.clone());
        Ok(found)
    }
}

/// Whether there are no credentials, or a token server does not accept them.
fn is_about_who_asks(error: &Error) -> bool {
    match error {
        Error::NoCredentials { .. } => true,
        Error::Token { cause, .. } => {
            matches!(**cause, Error::Unauthorized { .. } | Error::Denied { .. })
        }
        _ => false,
    }
}

/// What a challenge wants, joined with what the request needs anyway.
fn scopes_of(challenges: &[Challenge], needed: &Scopes) -> Scopes {
    let asked = challenges.iter().filter(|c| c.is("bearer")).filter_map(|c| c.get("scope"));
    asked.fold(needed.clone(), |scopes, text| scopes.with(&Scopes::parse(text)))
}
