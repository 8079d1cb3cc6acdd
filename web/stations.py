"""The stations below a county: pairing, timetables, logbooks and how they are, as HTTP.

    POST /api/pairings                {"public_key": PEM, "version"} signed by the box's new key
                                      -> 201 {"id", "code": "482913", "expires_at", "fingerprint"}
    GET  /api/pairings/{id}           -> {"state": "waiting" | "confirmed" | "expired",
                                      "identity": JWS}; only the box knows the id
    GET  /api/pairings                operator -> {"pairings": [{"code", "fingerprint", "version",
                                      "address", "asked_at", "expires_at"}]}
    POST /api/pairings/{code}/confirm operator, {"station": id, "name", "unit", "group"}
                                      -> {"station": {...}}. 404 no such code, 409 the id is taken
    GET  /api/programmes/{station}    the signed timetable, ETag, 304; 404 while there is none
    PUT  /api/programmes/{station}    operator: a signed timetable, for a station or a group
    POST /api/logbook                 {"station", "entries": [JWS]} -> {"acknowledged": [ids]}
    POST /api/stations/{id}/report    how the box is (signed) -> {"want": ["screenshot"],
                                      "token": ..}
    GET  /api/stations                operator -> {"now", "month", "stations": [Station]}
    GET  /api/stations/{id}           operator -> Station with "logbook" and "health"
    GET  /api/stations/{id}/logbook   operator, ?month= -> {"month", "plays": [...], "hours", ...}
    GET  /api/stations/{id}/screenshot.jpg   operator; the newest, 404 while there is none
    POST /api/stations/{id}/screenshot       operator: asks the box for a new one
    DELETE /api/stations/{id}         operator: the box's key is good no longer
    GET  /api/time                    ?nonce= -> a signed time (`media.clock`)

An operator is who bears a token with the publish scope for `stations` (a node that is open on
loopback asks for none).

Station: {"id", "name", "unit", "group", "paired_at", "seen_at", "state": "green" | "amber" | "red"
| "grey", "why": [fault], "current": {"item", "title", "show"} | null, "next": {"item", "title",
"starts_at", "state", "ready_at"} | null, "month": {"hours", "target", "plays", "head_count",
"expected", "present", "turnout": 0-1 | null}, "health": {...}, "version", "clock": {...}}.
Grey: nothing heard for three minutes; red: an item of the next 24 h will not play, or a fault that
keeps the box from playing; amber: any other fault.
"""
