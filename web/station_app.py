"""The HTTP of a village box: what its television page, a telephone and its neighbours ask.

Two sorts of callers. The television is a browser on the box itself (loopback): it asks without a
code. A telephone in the room comes over the LAN with the code of this session, which the television
shows as a QR; it may enter attendance and read the status. Courses are open to the LAN, since
neighbours fetch from each other and every piece is verified by who takes it.

All times are Unix seconds (UTC, with fractions) of the clock that the box believes. `now` stands in
every answer, with `rate`: how many of its seconds pass in one (1.0 outside tests), so that a page
never looks at its browser's own clock.

`GET /api/station` is the screen, and `GET /api/station/events` sends the same as server-sent events
(`event: screen`) at the moment anything in it changes, at least every 15 s:

    {"now": 1795651200.25, "rate": 1.0, "revision": 17, "time_zone": "Asia/Shanghai",
     "version": "0.1.0",
     "clock": {"doubt": false, "reason": "", "source": "parent", "asked_at": 1795651190.0},
     "station": {"id": "shangping-1", "name": "...", "unit": "...", "county": "..."} | null,
     "show": "pairing" | "idle" | "course" | "live" | "fault",
     "pairing": {"state": "no-line" | "waiting" | "expired", "code": "482913",
                 "url": "http://county:8740/stations?code=482913", "expires_at": 0.0,
                 "fingerprint": "3f1c 88a0"} | null,
     "current": {"id", "title", "kind": "course" | "live", "starts_at", "ends_at", "offset_s",
                 "course", "rendition", "src": "/courses/x/480p.mp4", "poster",
                 "subtitles": [{"lang", "label", "src"}], "whep": "/whep/stream",
                 "trouble": null | "line" | "missing"} | null,
     "coming": [up to five {"id", "title", "kind", "starts_at", "duration_s",
                 "state": "ready" | "fetching" | "waiting" | "late" | "missing" | "live" |
                          "live-offline", "percent": 0-100 | null, "ready_at": float | null,
                 "poster"}],
     "countdown_s": float | null, "changes_at": float | null,
     "line": {"up": true, "since": 0.0},
     "faults": [{"code", "about", "since", "values": {}, "sentence"}],
     "attend_url": "http://192.168.1.20:8780/attend?code=7F3K9Q" | "",
     "month": {"month": "2026-11", "hours": 12.4, "target": 20.0}}

`src`, `poster` and the like are paths at the box and "" where there is nothing. `faults` are those
of `media.faults`; pages translate `fault.<code>` with `values`.

    POST /api/station/tv          {"state": "playing" | "stalled" | "idle" | "error",
                                   "item": id | null, "position_s": float, "at": now, "why": ""}
                                  from the television, at every change and every two seconds while
                                  a picture moves: what was really played is written from these.
                                  `at` is the page's idea of the box's `now` when it was so.
    POST /api/station/time        {"code", "unix_s"}: a telephone's clock, taken only in doubt
    GET  /api/station/attendance  ?code=: {"item", "title", "head_count", "roll": [{"name",
                                  "present"}], "saved_at"} of the item that is on or was last
    POST /api/station/attendance  the same with "code"; answers the same. 403 with a wrong code
    GET  /api/station/status      {"now", "health", "faults", "line", "clock", "programme",
                                  "cache", "logbook": {"waiting", "acknowledged"}, "version"}
    GET  /api/station/logbook     ?month=2026-11: {"month", "hours", "target", "plays": [...]}
    GET  /api/station/screenshot.jpg   what the television shows now; 503 if its browser is silent
    GET  /api/time                {"unix_s", "doubt"}: for a neighbour whose clock is in doubt
    POST /whep/{stream}, PATCH, DELETE   passed on to the county with the box's token
    GET  /courses/...             as on every node
    GET  /healthz                 200, or 503 when a part of the daemon hangs

A play in a logbook: {"id", "item", "title", "kind", "planned_at", "planned_s", "started_at",
"ended_at", "played_s", "gaps": [{"from", "to", "why": "late" | "line" | "missing" | "stalled" |
"no-television" | "restart"}], "head_count": int | null, "present": int | null,
"absent": int | null, "acknowledged": bool}.
"""
