//! Every limit that has a default, with the reason for it. A crate that needs another one adds it here.

/// Largest request head, in bytes. nginx allows 4 buffers of 8 KiB; browsers with large cookies reach 16 KiB.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Most header fields in one head. Browsers send about 15, proxies add 10; beyond 128 it is an attack on parsers.
pub const HEAD_FIELDS_MAX: usize = 128;
/// Longest time from the first byte of a head to its last, in milliseconds (slowloris).
pub const HEAD_TIME_MAX_MS: u64 = 10_000;
/// Longest time a kept-alive connection may stay idle, in milliseconds. Longer than common load balancers' 60 s.
pub const IDLE_TIME_MAX_MS: u64 = 75_000;
/// Longest time between two reads of a body, in milliseconds.
pub const BODY_READ_GAP_MAX_MS: u64 = 30_000;
/// Largest request body, in bytes; more is refused with 413. Uploads of photographs and documents fit.
pub const BODY_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// How much of a request body is held for inspection before the upstream is contacted, in bytes: ModSecurity's
/// recommended `SecRequestBodyLimit`. Bodies without files are held up to `SecRequestBodyNoFilesLimit` only.
pub const BODY_HELD_BYTES_MAX: usize = 13_107_200;
/// Largest body that another proxy may show of a request that it asks about, in bytes: more than is held of one. Of a larger one the first
/// part is looked at.
pub const QUESTION_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a proxy may add to the head of a request that it asks about, in bytes: method, target and host stand there once more.
pub const QUESTION_HEAD_EXTRA_BYTES: usize = 40 * 1024;
/// Memory for held bodies and what their inspection makes of them, per node, in bytes; beyond it requests with bodies get 503,
/// and so do those whose responses are to be held, unless the app's `on_error` lets them pass uninspected.
pub const HELD_BYTES_MAX: usize = 512 * 1024 * 1024;
/// The same per actor: some uploads at once. Under the Core Rule Set a megabyte of JSON takes 1 to 6 times its size beside
/// itself, a form of 990 fields 2 MB, and the worst XML 15 MB.
pub const HELD_BYTES_PER_ACTOR_MAX: usize = 64 * 1024 * 1024;
/// How much of a response body is held for inspection, in bytes (ModSecurity's `SecResponseBodyLimit` default).
pub const RESPONSE_HELD_BYTES_MAX: usize = 512 * 1024;
/// How many times its own size a compressed body may hold before it is taken for a bomb. Text compresses 3 to 20 times,
/// logs and generated JSON up to 50. A rule set may say another for requests: `SecRequestBodyDecodedRatio`.
pub const DECODED_RATIO_MAX: usize = 100;
/// What a compressed body may hold in any case, in bytes: a few hundred bytes of a repetitive document may be far more.
pub const DECODED_FREE_BYTES: usize = 64 * 1024;
/// Longest wait for a connection to the upstream, in milliseconds.
pub const UPSTREAM_CONNECT_MAX_MS: u64 = 5_000;
/// Longest wait for the upstream's response head, in milliseconds (nginx's `proxy_read_timeout`).
pub const UPSTREAM_HEAD_MAX_MS: u64 = 60_000;
/// Upstreams of one app: each choice looks at all of them.
pub const UPSTREAMS_PER_APP_MAX: usize = 64;
/// Addresses of one upstream's name that are used; a name with more is a fleet of its own, with a balancer in front.
pub const UPSTREAM_ADDRESSES_MAX: usize = 64;
/// Greatest weight of an upstream: finer than a thousandth nobody can tell apart.
pub const UPSTREAM_WEIGHT_MAX: u16 = 1_000;
/// Requests of one app that wait for a busy upstream, by default: a second's worth of a small app.
pub const UPSTREAM_QUEUE_REQUESTS: usize = 256;
/// Most that policy can let wait; each holds its client's connection and its body.
pub const UPSTREAM_QUEUE_REQUESTS_MAX: usize = 65_536;
/// How long a request waits for a busy upstream by default, in milliseconds: whoever waits longer presses reload, which adds one more.
pub const UPSTREAM_QUEUE_WAIT_MAX_MS: u64 = 1_000;
/// Times that one request may be sent again.
pub const UPSTREAM_RETRIES_MAX: u8 = 8;
/// Longest ejection and longest slow start that policy can ask for, in milliseconds.
pub const UPSTREAM_EJECT_MAX_MS: u64 = 24 * 60 * 60_000;
/// Longest path of a health check, in bytes.
pub const UPSTREAM_CHECK_PATH_BYTES_MAX: usize = 1_024;
/// Longest head of an answer to a health check that is read, in bytes.
pub const UPSTREAM_CHECK_BYTES_MAX: usize = 64 * 1024;
/// Idle upstream connections kept per worker. As many as a burst of HTTP/2 streams needs: what is not kept is connected anew for
/// the next one, which costs more than the request. The time below bounds how long the upstream holds them.
pub const UPSTREAM_IDLE_MAX: usize = 1_024;
/// How long an idle upstream connection is kept, in milliseconds. Below node.js's 5 s keep-alive, so that we close first.
pub const UPSTREAM_IDLE_TIME_MAX_MS: u64 = 4_000;
/// Longest time a client may take none of a reply, in milliseconds (slow readers).
pub const WRITE_GAP_MAX_MS: u64 = 30_000;
/// Longest time an upgraded connection may be silent in both directions, in milliseconds. WebSocket applications that
/// care send pings every 30 s or so; an hour serves those that do not.
pub const TUNNEL_IDLE_MAX_MS: u64 = 60 * 60_000;
/// What a body must bring on average once its pauses used up their time, in bytes a second. A phone at the edge of its network has
/// some thousands; who sends a byte now and then has one.
pub const BODY_RATE_LEAST: u64 = 500;
/// The same of what a client must take of a reply.
pub const WRITE_RATE_LEAST: u64 = 500;
/// Requests of one connection, after which it ends in good order, so that clients that never leave come to other workers and nodes
/// once in a while; a new connection for each ten thousand requests costs nothing that can be measured.
pub const REQUESTS_PER_CONNECTION_MAX: u64 = 10_000;
/// Streams of one HTTP/2 connection at once. Browsers ask for no more than 100, and nginx allows 128.
pub const H2_STREAMS_MAX: u32 = 100;
/// Streams of one HTTP/2 connection that its client gave up before that can be abuse, if they are more than half: leaving a page
/// gives up what it still loads.
pub const H2_GIVEN_UP_MAX: u64 = 100;
/// Frames of one HTTP/2 connection, at once, that move no request on (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, unknown
/// ones); what we send earns more. Browsers begin with fewer than ten.
pub const H2_CONTROL_FRAMES_MAX: u32 = 1_000;
/// What of the machine's memory, or of its container's, the node may take before it sheds load, in per cent: what is left is the
/// kernel's for sockets, and other programs'.
pub const MEMORY_SHARE_PERCENT: u64 = 75;
/// Open files that clients and their upstreams leave to the rest of the node: admin, fleet, logs, state.
pub const FILES_RESERVED: usize = 256;
/// How long a connection that is closed with unread input is read on, so that the client gets the reply before a reset.
pub const LINGER_MAX_MS: u64 = 2_000;
/// Client connections per node, over all workers: ten thousand idle ones leave a third of the room, and at some 20 KiB each all of
/// them take 320 MiB. A process that may open fewer files has fewer.
pub const CONNECTIONS_MAX: usize = 16_384;
/// Client connections per actor. A large NAT keeps some hundreds open; more comes from a flood.
pub const CONNECTIONS_PER_ACTOR_MAX: usize = 512;
/// Largest greeting of a TLS client, in bytes. A browser's with a post-quantum key share has some 1,800.
pub const TLS_HELLO_BYTES_MAX: usize = 16 * 1024;
/// Longest time of a TLS handshake, from the connection to its end, in milliseconds: three round trips over any link.
pub const TLS_HANDSHAKE_TIME_MAX_MS: u64 = 10_000;
/// TLS handshakes under way per node. At 100 ms for each, as over long ways, it is 10,000 in a second, more than two cores do;
/// memory for greetings that do not end stays below 17 MiB.
pub const TLS_HANDSHAKES_MAX: usize = 1_024;
/// The same per actor: a large NAT after a restart of the node, or one attacker.
pub const TLS_HANDSHAKES_PER_ACTOR_MAX: usize = 128;
/// TLS handshakes that one actor may begin in a second. At some 150 us for each that is 1.5 % of a core; a large NAT opens some tens in
/// a second, because browsers keep their connections.
pub const TLS_HANDSHAKES_PER_SECOND: u32 = 100;
/// Those that it may begin at once: as many as it may have connections, which all come back when a node was away.
pub const TLS_HANDSHAKES_BURST: u32 = 512;
/// Actors whose handshakes are counted. At 48 bytes each it stays below 2 MiB.
pub const ARRIVAL_ACTORS_MAX: usize = 32_768;
/// Certificates of one node; each is read and checked at each reload.
pub const CERTIFICATES_MAX: usize = 1_024;
/// Hosts of one site for which certificates are ordered, with one for each.
pub const ACME_HOSTS_MAX: usize = 256;
/// A certificate that ends sooner than this is told to the operator, in milliseconds. Who renews a month before the end has
/// had two weeks.
pub const CERTIFICATE_ENDS_SOON_MS: u64 = 14 * 24 * 60 * 60_000;

/// Events that wait in the access lane; more are dropped and counted.
pub const ACCESS_LANE_EVENTS: usize = 16_384;
/// Events that wait in the security lane.
pub const SECURITY_LANE_EVENTS: usize = 8_192;
/// The part of the security lane that only strikes and proposals may use, so that a flood of refused requests cannot hide them.
pub const SECURITY_LANE_RESERVED: usize = 2_048;
/// Entries that wait in the ledger lane; when it is full the *action* is refused, never the entry dropped.
pub const LEDGER_LANE_ENTRIES: usize = 8_192;

/// Actors in the strike table. At about 200 bytes an entry it stays below 7 MiB when an attacker fills it.
pub const STRIKE_ACTORS_MAX: usize = 32_768;
/// Strikes remembered per actor; a policy cannot ask for more.
pub const STRIKES_KEPT_MAX: usize = 8;
/// Actors whose recent good traffic is remembered.
pub const GOOD_ACTORS_MAX: usize = 65_536;
/// How long good traffic speaks for an actor, in milliseconds.
pub const GOOD_MEMORY_MS: u64 = 10 * 60_000;
/// How long before an order a client must have been served well for that to speak for it: who came with an attack is not known by it.
pub const GOOD_KNOWN_AFTER_MS: u64 = 60_000;
/// Orders of a node for itself alone: each is about many, and looked at for each request while any is in force.
pub const HERE_MAX: usize = 32;
/// How long such an order holds at most, and one that a node gives to all on its own for an operator; it is given again while the attack goes on.
pub const HERE_FOR_MAX_MS: u64 = 15 * 60_000;
/// Distinct well-behaved clients behind one address from which on only the misbehaving one is banned.
pub const GOOD_CLIENTS_FOR_NARROWING: u32 = 3;
/// More than this part of the clients served well is not refused on the word of one other node or of a list without an operator, in
/// per cent: of a hundred visitors five may have met a botnet's addresses.
pub const HELD_SHARE_PERCENT: u8 = 5;
/// Fewer clients served well than this are no reason to hold anything: on a quiet site an attacker that looked around first is most
/// of the good traffic.
pub const HELD_CLIENTS_LEAST: u32 = 10;
/// Clients whose refusal counts against one author, and as many whose refusal is held: all that a node remembers as served well.
pub const HELD_CLIENTS_PER_AUTHOR_MAX: usize = GOOD_ACTORS_MAX;
/// Held decisions, lists and ranges named in one answer, the newest first.
pub const HELD_PAGE_MAX: usize = 1_000;
/// Addresses of one range that one author bans at a time, from which on the range is proposed: a quarter of a /24. Of IPv6 as many
/// /64 of one /48.
pub const RANGE_BANS_FOR_PROPOSAL: u32 = 64;
/// Strikes that make a decision.
pub const STRIKES_FOR_DECISION: u32 = 3;
/// The window within which strikes count, in milliseconds.
pub const STRIKE_WINDOW_MS: u64 = 60_000;
/// First automatic ban, in milliseconds; it doubles on repetition.
pub const BAN_FIRST_MS: u64 = 5 * 60_000;
/// Longest automatic ban, in milliseconds: a node alone may not banish for longer than a day.
pub const BAN_AUTOMATIC_MAX_MS: u64 = 24 * 60 * 60_000;
/// How long an actor's earlier bans are remembered for doubling, in milliseconds.
pub const BAN_MEMORY_MS: u64 = 24 * 60 * 60_000;
/// Live decisions that one node may author; beyond it the oldest-expiring one is replaced.
pub const DECISIONS_PER_AUTHOR_MAX: usize = 100_000;
/// Longest reason text kept with a decision, in bytes.
pub const REASON_BYTES_MAX: usize = 512;
/// A record dated further than this in the future is refused, in milliseconds.
pub const RECORD_FUTURE_MAX_MS: u64 = 60_000;

/// Rate limits of one app: each that matches costs a look into a table per request.
pub const RATE_LIMITS_PER_APP_MAX: usize = 16;
/// Path patterns of one rate limit; they are tried one by one.
pub const RATE_PATHS_MAX: usize = 64;
/// Longest path pattern, in bytes.
pub const RATE_PATH_BYTES_MAX: usize = 256;
/// Routes of one app. How many there are does not slow a request down; they take memory and time to load.
pub const ROUTES_PER_APP_MAX: usize = 20_000;
/// Routes of one app that have the same path; they are tried one by one.
pub const ROUTES_OF_PATH_MAX: usize = 64;
/// Longest path of a route, in bytes.
pub const ROUTE_PATH_BYTES_MAX: usize = 1_024;
/// Different patterns of one app's routes: a request tries each once at most, in both readings of its path.
pub const ROUTE_PATTERNS_PER_APP_MAX: usize = 64;
/// Bytes of the table that a route's pattern is compiled to. Usual ones take 2 to 30 KiB.
pub const ROUTE_PATTERN_TABLE_BYTES_MAX: usize = 256 * 1024;
/// Bytes of all patterns' tables of a policy; routes with the same pattern share one.
pub const ROUTE_PATTERNS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Segments of a route's path; as many are looked up for a request at most.
pub const ROUTE_DEPTH_MAX: usize = 32;
/// Changes of header fields in one place; each is compared with each field.
pub const HEADER_EDITS_MAX: usize = 64;
/// Longest value that policy gives a header field, in bytes.
pub const HEADER_EDIT_BYTES_MAX: usize = 4_096;
/// Largest body of an answer that stands in the policy; more is a web server's work.
pub const REPLY_BODY_BYTES_MAX: usize = 256 * 1024;
/// Largest template of a page of the node's own; it is sent to whoever is refused.
pub const PAGE_BYTES_MAX: usize = 64 * 1024;
/// A logo on a page of the node's own: it is sent within each, also to those who come to waste bandwidth.
pub const LOGO_BYTES_MAX: usize = 16 * 1024;

/// Longest time of a rate, in milliseconds: a day. What is forgotten at a restart should not be longer.
pub const RATE_PERIOD_MAX_MS: u64 = 24 * 60 * 60_000;
/// Highest rate, in requests per millisecond: a million in a second is more than a node serves.
pub const RATE_PER_MS_MAX: u64 = 1_000;
/// Requests admitted at once where policy names no burst and the rate has as many: a person tries a password a few times.
pub const RATE_BURST_LEAST: u32 = 5;
/// Logins, lookups and payments that an app declares: each request with a body is compared with all.
pub const ACCOUNT_ENDPOINTS_PER_APP_MAX: usize = 64;
/// Sessions whose accounts a node remembers. At 24 bytes each they take 6 MiB when an attacker fills the table.
pub const SESSION_ACCOUNTS_MAX: usize = 262_144;
/// Paths of logins of which a node remembers how they answer; what is asked least makes room.
pub const LOGIN_PATHS_MAX: usize = 256;
/// Keys whose rates a node counts, over all limits. At 72 bytes each they take less than 5 MiB when an attacker fills the table.
pub const RATE_KEYS_MAX: usize = 65_536;
/// Keys that a node tells the fleet of at once, those nearest to their limit first: some 5 KiB, ten times a second.
pub const RATE_KEYS_TOLD_MAX: usize = 256;
/// Keys that are remembered of what one other node tells: what it can tell of in the time that they are remembered for.
pub const RATE_KEYS_OF_AUTHOR_MAX: usize = 4 * RATE_KEYS_TOLD_MAX;
/// Requests of one key beyond its limit that are kept as evidence; then each that doubles their number.
pub const RATE_EVIDENCE_KEPT: u32 = 16;
/// How often a node tells the fleet what it admitted, in milliseconds.
pub const RATE_TELL_MS: u64 = 100;
/// Count batches of other nodes that wait to be counted; more are dropped, and the next ones say the same.
pub const RATE_BATCHES_QUEUE: usize = 256;

/// Bytes that the operators of a rule set may look at for one request, over all rules and values; beyond it the request is
/// refused as one that cannot be judged. The Core Rule Set at paranoia 4 looks at some 700 bytes for each byte of JSON, so
/// that a megabyte of it stays below; at one or two bytes in a nanosecond it is one or two seconds of one core.
pub const EXAMINED_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Longest text that a rule may put together in a variable, in bytes: one that doubles with each match would fill the memory.
pub const VARIABLE_BYTES_MAX: usize = 1024 * 1024;
/// Memory that the compiled patterns of one rule set may take, in bytes. The Core Rule Set's take some 20 MiB.
pub const PATTERN_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Records of a rule set's persistent collections (`IP`, `SESSION` and others), all together. With a few counters each they
/// take some 20 MiB; a new one takes the place of one that was not touched for longest.
pub const COLLECTION_RECORDS_MAX: usize = 65_536;
/// Bytes of those records when an attacker fills them to the brim.
pub const COLLECTION_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Longest fragment of a matched value kept as evidence, in bytes.
pub const FRAGMENT_BYTES_MAX: usize = 256;
/// Text of values kept with one request to show what transformations made of them, in bytes; the names of further steps
/// are kept without it. Half of a record in the history, so that it never costs a signal.
pub const STEP_TEXT_BYTES_MAX: usize = 16 * 1024;
/// Most signals kept with one request; a request that matches more is no better explained by them.
pub const SIGNALS_KEPT_MAX: usize = 64;
/// Refused and flagged requests kept in a node's queryable history; the oldest are deleted first.
pub const HISTORY_EVENTS_MAX: usize = 1_000_000;
/// Size at which the access log is rotated, in bytes.
pub const ACCESS_LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Rotated access logs kept.
pub const ACCESS_LOG_FILES_MAX: usize = 5;
/// Size of the queryable history on disk, in bytes; the oldest requests are deleted first. A million usual requests with their indexes and the
/// counts come to about as much; requests that match many rules take more.
pub const HISTORY_BYTES_MAX: u64 = 3 * 1024 * 1024 * 1024;
/// What a control node keeps of the histories of its site's other nodes, in bytes. Nodes share it: a few with full histories of their own, or
/// many with usual ones.
pub const HISTORY_COPIES_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;
/// Largest record of one request in the history, in bytes before sealing. Beyond it evidence is left out, then tags,
/// then the last signals; the ids of all rules still find the record.
pub const HISTORY_RECORD_BYTES_MAX: usize = 32 * 1024;
/// Requests that wait for the history while its disk fails; beyond it the oldest are dropped and counted.
pub const HISTORY_PENDING_MAX: usize = 4_096;
/// Most requests in one answer about the history.
pub const HISTORY_PAGE_MAX: usize = 500;
/// Rows that a search in free text opens in one call: each is unsealed and read, some 5 us.
pub const HISTORY_OPENED_MAX: usize = 20_000;
/// Longest text that a search looks for, in bytes.
pub const HISTORY_TEXT_BYTES_MAX: usize = 256;
/// Recorded requests in which the clients refused most are looked for.
pub const HISTORY_ACTORS_LOOKED_AT: usize = 200_000;
/// Minutes whose counts of requests are kept: two days.
pub const TRAFFIC_MINUTES_MAX: usize = 2 * 24 * 60;
/// Hours whose counts are kept: ninety days.
pub const TRAFFIC_HOURS_MAX: usize = 90 * 24;
/// Apps that are counted apart in one minute or hour; requests of the others are added up.
pub const TRAFFIC_APPS_MAX: usize = 64;
/// Countries, and rules, that are counted apart of one app in one minute or hour, those with the most refusals first. With all other counts
/// these are some 60 rows of 30 bytes for a busy app, 10 MB in all that time.
pub const TRAFFIC_VALUES_MAX: usize = 24;
/// Names of apps and countries that the counts speak of.
pub const TRAFFIC_NAMES_MAX: usize = 4_096;
/// Counts that wait to be written, for a disk that fails: some hours of a busy node in 8 MiB. Beyond it requests are counted as lost.
pub const TRAFFIC_PENDING_MAX: usize = 65_536;
/// Points in one answer about traffic.
pub const TRAFFIC_POINTS_MAX: usize = 500;
/// Series in one answer about traffic; the rest is added up.
pub const TRAFFIC_SERIES_MAX: usize = 12;
/// Size at which the ledger continues in a new file, in bytes. The last file is verified at each start.
pub const LEDGER_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Files of the ledger that are looked through for one page.
pub const LEDGER_FILES_READ_MAX: usize = 4;
/// Bytes of the ledger whose chain is followed in one call, some 150 ms: four files.
pub const LEDGER_CHECKED_BYTES_MAX: u64 = 4 * LEDGER_FILE_BYTES_MAX;
/// Recorded requests a live subscriber may lag behind before it loses some.
pub const LIVE_EVENTS: usize = 1_024;

/// Blocklists in force at once: which of them hold an address is one bit each in the table that requests look into.
pub const BLOCKLISTS_MAX: usize = 16;
/// Names of blocklists that are remembered, removed ones included, so that no earlier version comes back.
pub const BLOCKLIST_NAMES_MAX: usize = 1_024;
/// Prefixes of all blocklists together: up to 21 MB of memory for requests to look into, and twice that while a version is replaced.
pub const BLOCKLIST_PREFIXES_MAX: usize = 1_000_000;
/// Longest text that a blocklist is imported from, in bytes: a million prefixes of IPv6 in full.
pub const BLOCKLIST_TEXT_BYTES_MAX: usize = 48 * 1024 * 1024;
/// Authors whose decisions one operator may have recalled: both roles of every node, twice over.
pub const RECALLS_PER_AUTHOR_MAX: usize = 4 * FLEET_NODES_MAX;
/// Nodes that one fleet may have: four times what the product is made for, so that forged names cannot fill memory.
pub const FLEET_NODES_MAX: usize = 256;
/// Invitations that a fleet's authority remembers, used and over ones for a week: as many as a fleet has nodes, four times over.
pub const FLEET_INVITATIONS_MAX: usize = 4 * FLEET_NODES_MAX;
/// Longest decision that an operator may write, in milliseconds: a year. What should last longer belongs into policy.
pub const DECISION_MAX_MS: u64 = 366 * 24 * 60 * 60_000;
/// Widest IPv4 range that a decision may be about, in prefix bits; the largest allocations are /8.
pub const PREFIX_V4_BITS_MIN: u8 = 8;
/// Widest IPv6 range that a decision may be about, in prefix bits; the largest allocations are /19 or so.
pub const PREFIX_V6_BITS_MIN: u8 = 16;
/// Console login links that wait to be used.
pub const LOGIN_TICKETS_MAX: usize = 64;
/// How long a console login link is good, in milliseconds.
pub const LOGIN_TICKET_MS: u64 = 10 * 60_000;
/// Console sessions open at once: all that all operators may have, and those of login links.
pub const SESSIONS_MAX: usize = OPERATORS_MAX * SESSIONS_PER_OPERATOR_MAX + 256;
/// How long a console session lasts, in milliseconds: a working day.
pub const SESSION_MS: u64 = 12 * 60 * 60_000;
/// How long a console session lasts without a request, in milliseconds.
pub const SESSION_IDLE_MS: u64 = 60 * 60_000;
/// Console sessions of one operator, so that one cannot push out all others.
pub const SESSIONS_PER_OPERATOR_MAX: usize = 16;
/// How long a link for an operator's enrolment is good, in milliseconds: until tomorrow.
pub const ENROL_TICKET_MS: u64 = 24 * 60 * 60_000;
/// How long a second factor counts as fresh for what is dangerous, in milliseconds.
pub const FRESH_FACTOR_MS: u64 = 5 * 60_000;
/// Operators of one node: more people than one edge has, and the file stays small.
pub const OPERATORS_MAX: usize = 128;
/// Passkeys of one operator.
pub const PASSKEYS_MAX: usize = 8;
/// API tokens of one operator.
pub const OPERATOR_TOKENS_MAX: usize = 16;
/// Longest time of an API token, in milliseconds: a year.
pub const OPERATOR_TOKEN_MS_MAX: u64 = 366 * 24 * 60 * 60_000;
/// Apps that one operator's scope may name.
pub const OPERATOR_APPS_MAX: usize = 64;

/// Changes to fleet state that wait for the disk; beyond it peers' records are not kept here, own ones wait.
pub const FLEET_STORE_QUEUE: usize = 16_384;
/// Own records that wait to be sent; beyond it they are sent when the wait is over, from memory.
pub const FLEET_OUTBOX: usize = 16_384;
/// Largest blob, in bytes: a block list of a million prefixes takes about 12 MiB.
pub const FLEET_BLOB_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Blobs kept by a node.
pub const FLEET_BLOBS_MAX: u64 = 64;
/// Records of authors not yet announced that wait for the announcement; beyond it the engine is asked again.
pub const FLEET_STRANGERS_MAX: usize = 4_096;
/// Latest changes of decisions kept for readers that ask what is new (firewalls, every 10 s or so): 3 MiB, and more than a fleet
/// decides in a minute; who asks later reads everything.
pub const FLEET_TRAIL_MAX: usize = 65_536;
/// Changes that a slow listener (console, stream) may lag behind before it misses some.
pub const FLEET_CHANGES_QUEUE: usize = 4_096;
/// Largest policy bundle, in bytes: the Core Rule Set with its data takes 2 MiB.
pub const POLICY_BUNDLE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Files in a policy bundle; the Core Rule Set has about 60.
pub const POLICY_FILES_MAX: usize = 1_024;
/// Longest name of a file in a policy bundle, in bytes: that of a path.
pub const POLICY_NAME_BYTES_MAX: usize = 1_024;
/// Policy versions that the fleet's record remembers, to tell a fork from a successor and to go back to; a node that missed more
/// takes the newest on its signature alone.
pub const POLICY_CHAIN_MAX: usize = 32;
/// Longest reason that is kept of each version of the policy, in bytes.
pub const ORIGIN_REASON_BYTES_MAX: usize = 256;
/// Longest name of who made a version of the policy, or of what it was made, in bytes: a hash of 64 digits and a word before it.
pub const ORIGIN_WORD_BYTES_MAX: usize = 96;
/// Largest policy record that is written, in bytes. Readers take 64 KiB with signature and certificate.
pub const POLICY_RECORD_BYTES_MAX: usize = 40 * 1024;
/// Changes of policy that wait for a second operator at a node; each may be as large as a bundle.
pub const CHANGES_WAITING_MAX: usize = 16;
/// Changes of policy that wait of one author, so that nobody takes all places.
pub const CHANGES_PER_AUTHOR_MAX: usize = 4;
/// Changes of policy that are over and still shown.
pub const CHANGES_KEPT_MAX: usize = 64;
/// How long a change of policy waits for a second operator: overnight, so that one in another part of the world can look at it.
pub const CHANGE_LIFE_MS: u64 = 24 * 60 * 60_000;
/// What is listed of the differences that a change makes.
pub const CHANGE_DIFFERENCES_MAX: usize = 200;
/// Policy bundles whose content is kept, the newest first: as far as a rollback can go.
pub const POLICY_BUNDLES_KEPT: usize = 8;
/// Rules in all files of one policy bundle: fourteen times the Core Rule Set.
pub const POLICY_RULES_MAX: usize = 10_000;
/// Lines in all files of one policy bundle: lists of phrases and addresses are compiled into tables, in memory, on every node.
pub const POLICY_LINES_MAX: usize = 200_000;
/// Apps of one policy bundle.
pub const POLICY_APPS_MAX: usize = 4_096;
/// Routes of all apps of one policy bundle.
pub const POLICY_ROUTES_MAX: usize = 50_000;
/// Rules that all distinct programs of one policy bundle have together: each app with a rule set or paranoia level of its own has one.
pub const POLICY_PROGRAM_RULES_MAX: usize = 50_000;
/// Addresses and ranges in the policy file of a bundle. What is longer is a blocklist.
pub const POLICY_PREFIXES_MAX: usize = 10_000;
/// Clients that are told apart while a policy is on trial: 200 KiB, and enough to judge by.
pub const TRIAL_CLIENTS_MAX: usize = 4_096;
/// Apps that have series of their own in metrics; the others share one. Each has some 30, of which a Prometheus keeps about 3 KiB each.
pub const METRICS_APPS_MAX: usize = 128;
/// Largest header of the PROXY protocol, in bytes. Balancers send up to some hundred; one with a client's certificate in it may
/// have a few thousand.
pub const PROXY_HEADER_BYTES_MAX: usize = 4 * 1024;
/// Longest time from a balancer's connection to the end of its PROXY header, in milliseconds. It sends it with its first
/// packet; one that is lost is sent again after one second, and after two more.
pub const PROXY_HEADER_TIME_MAX_MS: u64 = 5_000;
/// Elements of forwarding fields that are looked at: nobody stands behind more proxies.
pub const FORWARDED_ELEMENTS_MAX: usize = 64;
/// Networks of one content delivery network: the largest publish some two hundred, and each request from a peer asks all of them.
pub const CDN_NETWORKS_MAX: usize = 512;
/// Responses that a worker compresses at once; more go as they are. Each encoder takes some hundred KiB.
pub const COMPRESSED_RESPONSES_MAX: usize = 128;

/// Clients whose answers to challenges are remembered. At about 72 bytes each it stays below 3 MiB.
pub const CHALLENGE_ACTORS_MAX: usize = 32_768;
/// Passed challenges that are followed on one node. At about 136 bytes each it stays below 9 MiB.
pub const CHALLENGE_PASSES_MAX: usize = 65_536;
/// Zero bits that an answer begins with where nothing speaks against a client: 65,536 tries, a fraction of a second on a phone.
pub const CHALLENGE_BITS: u8 = 16;
/// The most that load and failures make of it: a million tries, some seconds on a phone.
pub const CHALLENGE_BITS_MAX: u8 = 20;
/// How long a challenge can be answered, for slow clients and people who come back to a tab.
pub const CHALLENGE_OPEN_MS: u64 = 10 * 60_000;
/// How long whoever worked for it passes.
pub const CHALLENGE_PASS_MS: u64 = 60 * 60_000;
/// How long whoever only waited for it passes, at most: waiting costs a program nothing.
pub const CHALLENGE_PASS_WAITED_MS: u64 = 15 * 60_000;
/// Networks (IPv4 /24, IPv6 /48) that one pass is taken from on one node: a phone between home, office and mobile network has a few.
pub const PASS_NETWORKS_MAX: usize = 8;
/// Requests in a second that one pass is taken for on one node, for long and at once: a page with all that is in it, several times.
pub const PASS_REQUESTS_PER_S: u32 = 20;
/// See [`PASS_REQUESTS_PER_S`].
pub const PASS_REQUESTS_BURST: u32 = 400;
/// Throttled clients that are counted. At about 64 bytes each it stays below 3 MiB.
pub const THROTTLED_MAX: usize = 32_768;
/// Requests in a minute of an actor that is throttled, where policy says nothing: a person reads on, a program does not get far.
pub const THROTTLE_PER_MINUTE: u32 = 60;
/// Of these at once: a page with what is in it.
pub const THROTTLE_BURST: u32 = 30;
/// How many times that all clients together have whom an order about a network, country or kind of client is about.
pub const THROTTLE_TOGETHER: u32 = 20;
/// Crawlers that are known by name; the User-Agent of each connection is compared with all of them.
pub const CRAWLERS_MAX: usize = 64;
/// Networks of one crawler.
pub const CRAWLER_NETWORKS_MAX: usize = 2_048;
/// Addresses that say that they are crawlers, and what is known of that. At about 72 bytes each it stays below 2 MiB.
pub const CRAWLER_CLAIMS_MAX: usize = 16_384;
/// How often what was sampled for replay is written, in milliseconds: at most as much of it is lost with the process.
pub const RECORDING_WINDOW_MS: u64 = 2_000;
/// Requests of an app that a worker keeps of each window, of those passed on and of those refused or flagged each. A small
/// site is recorded whole; of a busy one some 60,000 requests an hour and worker.
pub const RECORDING_WINDOW_REQUESTS: usize = 32;
/// Apps that a worker samples within a window; more than most nodes have.
pub const RECORDING_WINDOW_APPS: usize = 256;
/// Memory that requests take that wait to be recorded, all of them together, in bytes.
pub const RECORDING_WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest body of a request that is recorded, in bytes; of a larger one the head alone is. Forms and calls fit, uploads do not.
pub const RECORDING_BODY_BYTES_MAX: usize = 64 * 1024;
/// Size of the recording on disk, in bytes: some 100,000 requests.
pub const RECORDING_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How long requests are kept for replay, in milliseconds: a day shows what a change does to whoever comes daily.
pub const RECORDING_KEPT_MS: u64 = 24 * 60 * 60 * 1_000;
/// Size at which a part of the recording ends and a new one begins, in bytes: what is deleted at once.
pub const RECORDING_SEGMENT_BYTES: u64 = 2 * 1024 * 1024;
/// Requests that one replay looks at: each is inspected twice.
pub const REPLAY_REQUESTS_MAX: usize = 50_000;
/// How long a replay takes at most, in milliseconds; what it did not come to is said.
pub const REPLAY_TIME_MAX_MS: u64 = 60_000;
/// How often a request is judged again for a suggested exclusion; what more than so many rules refuse is hardly a mistake.
pub const SUGGEST_ROUNDS_MAX: usize = 8;
/// How long each step of a suggestion takes at most, in milliseconds: finding the request, excluding, looking at those of others. Somebody waits
/// for it.
pub const SUGGEST_TIME_MAX_MS: u64 = 20_000;
