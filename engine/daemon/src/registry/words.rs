//! The word lists of generated names: an adjective and the surname of somebody
//! who advanced science, engineering or seafaring.

pub(super) const ADJECTIVES: [&str; 96] = [
    "able", "agile", "airy", "alert", "amber", "ample", "azure", "balmy", "blithe", "bold",
    "brave", "breezy", "bright", "brisk", "calm", "candid", "careful", "cheery", "clear", "clever",
    "cosy", "curious", "daring", "deft", "eager", "early", "earnest", "easy", "fair", "faithful",
    "fearless", "fleet", "fluent", "fond", "frank", "free", "fresh", "gallant", "gentle", "gifted",
    "glad", "golden", "grand", "handy", "happy", "hardy", "hearty", "helpful", "honest", "humble",
    "jaunty", "jolly", "keen", "kind", "lively", "loyal", "lucid", "lucky", "mellow", "merry",
    "mighty", "modest", "neat", "nimble", "noble", "patient", "placid", "plucky", "polite", "proud",
    "quick", "quiet", "ready", "robust", "rosy", "serene", "sharp", "silent", "sincere", "smart",
    "snug", "sober", "spry", "steady", "stout", "sunny", "swift", "tidy", "tranquil", "trusty",
    "upbeat", "vivid", "warm", "wise", "witty", "zesty",
];

pub(super) const SURNAMES: [&str; 96] = [
    "abel", "aiken", "alhazen", "ampere", "anning", "archimedes", "avogadro", "babbage", "banneker",
    "beaufort", "bernoulli", "boole", "bose", "brahe", "brunel", "burnell", "cannon", "carson",
    "cavendish", "chandrasekhar", "chatelet", "clarke", "copernicus", "curie", "cuvier", "dalton",
    "darwin", "davy", "diesel", "dijkstra", "dirac", "edison", "einstein", "euler", "faraday",
    "fermat", "fermi", "feynman", "fourier", "franklin", "galileo", "galois", "gauss", "germain",
    "goodall", "hamilton", "harrison", "herschel", "hertz", "hooke", "hopper", "hubble", "humboldt",
    "huygens", "hypatia", "johnson", "joule", "kepler", "khayyam", "kovalevskaya", "lagrange",
    "lamarr", "laplace", "leavitt", "leibniz", "linnaeus", "lovelace", "magellan", "maxwell",
    "mayer", "meitner", "mendel", "mercator", "mirzakhani", "mitchell", "moseley", "nansen",
    "napier", "newton", "noether", "ohm", "pascal", "pasteur", "payne", "planck", "ptolemy",
    "raman", "ride", "rutherford", "shannon", "somerville", "tesla", "turing", "volta", "wallace",
    "wu",
];
