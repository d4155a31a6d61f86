//! What happens, as `GET /events` tells it.

use super::StringMap;

api! {
    /// One event. The first three members are for clients of old versions.
    EventMessage = "events.Message" {
        status: String = "status".go("Status").omitempty();
        id: String = "id".go("ID").omitempty();
        from: String = "from".go("From").omitempty();
        kind: String = "Type".kind("events.Type");
        action: String = "Action".kind("events.Action");
        actor: EventActor = "Actor";
        scope: String = "scope".go("Scope").omitempty();
        time: i64 = "time".go("Time").omitempty();
        time_nano: i64 = "timeNano".go("TimeNano").omitempty();
    }

    /// What an event is about.
    EventActor = "events.Actor" {
        id: String = "ID";
        attributes: StringMap = "Attributes";
    }
}
