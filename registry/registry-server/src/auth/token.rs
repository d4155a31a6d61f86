//! Bearer tokens as Docker's token servers make them: a JWT that lists what its bearer may do.

use std::collections::HashSet;

use arc_swap::ArcSwap;
use http::HeaderMap;
use jsonwebtoken::{Validation, decode, decode_header};
use serde::Deserialize;

use super::keys::Keys;
use super::ring_jwt::{ALGORITHMS, install};
use super::{InvalidAuth, Need, TokenOptions, challenge, credentials, quoted};
use crate::api::ApiError;

/// How far clocks may differ, in seconds.
const LEEWAY: u64 = 60;

/// What a token says.
#[derive(Debug, Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
    #[serde(default)]
    access: Vec<Access>,
}

#[derive(Debug, Deserialize)]
struct Access {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    #[serde(default)]
    actions: HashSet<String>,
}

/// The check of tokens.
pub(crate) struct Tokens {
    options: TokenOptions,
    keys: ArcSwap<Keys>,
}

/// Why a token does not count, in the words of the challenge.
enum Refused {
    None,
    Invalid,
    Insufficient,
}

impl Tokens {
    pub(super) fn open(options: &TokenOptions) -> Result<Self, InvalidAuth> {
        install();
        let keys = ArcSwap::from_pointee(Keys::read(options)?);
        Ok(Self { options: options.clone(), keys })
    }

    pub(super) fn reload(&self) -> Result<(), InvalidAuth> {
        self.keys.store(Keys::read(&self.options)?.into());
        Ok(())
    }

    pub(super) fn check(&self, headers: &HeaderMap, needs: &[Need]) -> Result<String, ApiError> {
        self.bearer(headers, needs).map_err(|why| {
            let TokenOptions { realm, service, .. } = &self.options;
            let mut text = format!("Bearer realm={},service={}", quoted(realm), quoted(service));
            if !needs.is_empty() {
                let scopes: Vec<String> = needs.iter().map(scope).collect();
                text.push_str(&format!(",scope={}", quoted(&scopes.join(" "))));
            }
            text.push_str(match why {
                Refused::None => "",
                Refused::Invalid => ",error=\"invalid_token\"",
                Refused::Insufficient => ",error=\"insufficient_scope\"",
            });
            challenge(needs, &text)
        })
    }

    fn bearer(&self, headers: &HeaderMap, needs: &[Need]) -> Result<String, Refused> {
        let token = credentials(headers, "Bearer").ok_or(Refused::None)?;
        let claims = self.claims(token).map_err(|why| {
            tracing::debug!("a token is refused: {why}");
            Refused::Invalid
        })?;
        if needs.iter().all(|need| claims.cover(need)) {
            return Ok(claims.sub);
        }
        Err(Refused::Insufficient)
    }

    fn claims(&self, token: &str) -> Result<Claims, String> {
        let header = decode_header(token).map_err(|e| e.to_string())?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(format!("algorithm {:?}", header.alg));
        }
        let mut wanted = Validation::new(header.alg);
        wanted.leeway = LEEWAY;
        wanted.validate_nbf = true;
        wanted.set_issuer(&[&self.options.issuer]);
        wanted.set_audience(&[&self.options.service]);
        wanted.set_required_spec_claims(&["exp", "iss", "aud"]);
        let mut why = String::from("no key fits");
        for key in self.keys.load().candidates(&header)? {
            match decode::<Claims>(token, &key, &wanted) {
                Ok(token) => return Ok(token.claims),
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }
}

impl Claims {
    fn cover(&self, need: &Need) -> bool {
        let (kind, name) = (need.kind(), need.name());
        let own: Vec<&Access> =
            self.access.iter().filter(|a| a.kind == kind && a.name == name).collect();
        let may = |action: &str| {
            own.iter().any(|a| a.actions.contains(action) || a.actions.contains("*"))
        };
        need.actions().into_iter().all(may)
    }
}

fn scope(need: &Need) -> String {
    format!("{}:{}:{}", need.kind(), need.name(), need.actions().join(","))
}
