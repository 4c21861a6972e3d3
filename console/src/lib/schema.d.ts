// Generated from the OpenAPI document of a node by `npm run generate`. Not edited by hand.

export interface paths {
    "/api/v1/audit": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: number;
                    kind?: string;
                    by?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["AuditPage"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/blocklists": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Blocklist"][];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/blocklists/{name}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                };
                header?: never;
                path: {
                    name: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["BlocklistContent"];
                    };
                };
            };
        };
        put: {
            parameters: {
                query?: {
                    kind?: string;
                    for_ms?: number;
                    reason?: string;
                };
                header?: never;
                path: {
                    name: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Blocklist"];
                    };
                };
            };
        };
        post?: never;
        delete: {
            parameters: {
                query?: {
                    reason?: string;
                };
                header?: never;
                path: {
                    name: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/bouncers": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Bouncers"];
                    };
                };
            };
        };
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["NewBouncer"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["BouncerKey"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/bouncers/{name}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    name: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/decisions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Decision"][];
                    };
                };
            };
        };
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["NewDecision"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["DecisionMade"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/decisions/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        delete: {
            parameters: {
                query?: {
                    reason?: string;
                };
                header?: never;
                path: {
                    id: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Withdrawal"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: string;
                    since_ms?: number;
                    until_ms?: number;
                    client?: string;
                    action?: string;
                    rule?: number;
                    app?: string;
                    status?: string;
                    country?: string;
                    method?: string;
                    q?: string;
                    incident?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["EventRow"][];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/events/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Explanation"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/events/{id}/suggestion": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    owner?: string;
                    reason?: string;
                    days?: number;
                };
                header?: never;
                path: {
                    id: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Suggestion"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/exclusions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ExclusionRow"][];
                    };
                };
            };
        };
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["NewExclusion"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["PolicyChange"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/fixes": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Fix"][];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/fleet": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Authority"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/fleet/delegate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Delegate"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/fleet/delegations": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["NewDelegation"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Delegation"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/fleet/delegations/{site}/{node}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    site: string;
                    node: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Delegation"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/fleet/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: string;
                    since_ms?: number;
                    until_ms?: number;
                    client?: string;
                    action?: string;
                    rule?: number;
                    app?: string;
                    status?: string;
                    country?: string;
                    method?: string;
                    q?: string;
                    incident?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["FleetEvents"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/fleet/events/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["RedactedRequest"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/fleet/invitations": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["NewInvitation"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Invited"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/fleet/orders": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["NewNodeOrder"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["NodeOrder"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/fleet/restore": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: {
                    dry_run?: boolean;
                };
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Restored"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/fleet/revocations": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["NewRevocation"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Revoked"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/fleet/root": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Authority"];
                    };
                };
            };
        };
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Authority"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/fleet/snapshot": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/octet-stream": string;
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/held": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Held"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/held/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: {
                    reason?: string;
                };
                header?: {
                    "Idempotency-Key"?: string;
                };
                path: {
                    id: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Settled"];
                    };
                };
            };
        };
        delete: {
            parameters: {
                query?: {
                    reason?: string;
                };
                header?: never;
                path: {
                    id: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Settled"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/incidents": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["IncidentRow"][];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/incidents/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Incident"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/incidents/{id}/answer": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path: {
                    id: string;
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PlaybookAnswer"];
                };
            };
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/incidents/{id}/close": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path: {
                    id: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/incidents/{id}/undo": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path: {
                    id: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Undone"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/login-links": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["LoginLink"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/login/challenge": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["PasskeyChallenge"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/login/oidc": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["LoginProvider"][];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/login/oidc/{name}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    name: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ProviderLogin"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/login/passkey": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PasskeySigned"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Me"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/login/password": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PasswordLogin"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Me"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/logout": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/me": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Me"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/me/challenge": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["PasskeyChallenge"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/me/passkeys": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["NewPasskey"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/me/passkeys/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/me/password": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["NewPassword"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["RecoveryCodes"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/me/prove": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["Proof"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Me"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/me/prove/oidc": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ProviderLogin"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/me/tokens": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["NewApiToken"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ApiTokenMade"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/me/tokens/{name}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    name: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/me/totp": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["TotpOffer"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/nodes": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Member"][];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/nodes/{site}/{node}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    site: string;
                    node: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/nodes/{site}/{node}/decisions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        delete: {
            parameters: {
                query?: {
                    role?: string;
                    reason?: string;
                };
                header?: never;
                path: {
                    site: string;
                    node: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Recall"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/oidc": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ProviderRow"][];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/oidc/{name}/test": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path: {
                    name: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ProviderRow"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/openapi.json": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": string;
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/operator-resets": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["OperatorInvited"][];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/operators": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["OperatorRow"][];
                    };
                };
            };
        };
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["NewOperator"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["OperatorInvited"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/operators/{name}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    name: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        options?: never;
        head?: never;
        patch: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    name: string;
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["OperatorEdit"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["OperatorRow"];
                    };
                };
            };
        };
        trace?: never;
    };
    "/api/v1/operators/{name}/reset": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path: {
                    name: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["OperatorInvited"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/operators/{name}/tokens": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path: {
                    name: string;
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["NewApiToken"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ApiTokenMade"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/operators/{name}/tokens/{token}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    name: string;
                    token: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/playbooks": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["PlaybookRow"][];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/playbooks/{name}/run": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path: {
                    name: string;
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PlaybookStart"];
                };
            };
            responses: {
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/policy": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Policy"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/policy/bundles": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PolicyPush"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Policy"];
                    };
                };
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Policy"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/policy/changes": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["PolicyChange"][];
                    };
                };
            };
        };
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["NewPolicyChange"];
                };
            };
            responses: {
                201: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["PolicyChange"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/policy/changes/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["PolicyChange"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/policy/changes/{id}/approve": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path: {
                    id: string;
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PolicyApproval"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["PolicyChange"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/policy/changes/{id}/reject": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path: {
                    id: string;
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PolicyRejection"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["PolicyChange"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/policy/check": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PolicyFiles"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["PolicyChecked"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/policy/diff": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PolicyCompare"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["PolicyDiffered"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/policy/followers": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["PolicyFollower"][];
                    };
                };
            };
        };
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PolicyFollowing"];
                };
            };
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/policy/home": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PolicyHome"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Policy"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/policy/promote": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Policy"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/policy/reload": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["PolicyReloaded"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/policy/replay": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PolicyReplay"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Replayed"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/policy/rollback": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PolicyRollback"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Policy"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/policy/versions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: number;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["PolicyVersionRow"][];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/policy/versions/{version}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    version: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["PolicyContent"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/recalls": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Recall"][];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/receivers": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ReceiverRow"][];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/receivers/{name}/test": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path: {
                    name: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ReceiverTested"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/report": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    from_ms?: number;
                    to_ms?: number;
                    app?: string;
                    fleet?: boolean;
                    format?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Report"];
                        "text/csv": string;
                        "text/html": string;
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/reports": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ReportScheduleRow"][];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/reports/{name}/send": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path: {
                    name: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ReportSent"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/selftest": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["SelfTest"];
                    };
                };
            };
        };
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["SelfTest"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/sessions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    limit?: number;
                    before?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["SessionRow"][];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/sessions/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    id: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                204: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/status": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Status"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/stream": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "text/event-stream": string;
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/traffic": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    from_ms?: number;
                    to_ms?: number;
                    by?: string;
                    count?: string;
                    app?: string;
                    points?: number;
                    fleet?: boolean;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["TrafficSeen"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/traffic/actors": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    from_ms?: number;
                    to_ms?: number;
                    app?: string;
                    points?: number;
                    fleet?: boolean;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ActorsSeen"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/upgrade": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post: {
            parameters: {
                query?: never;
                header?: {
                    "Idempotency-Key"?: string;
                };
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                202: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["UpgradeBegun"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/healthz": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Health"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/login": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    ticket?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: never;
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/login/oidc/{name}/callback": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: {
                    state?: string;
                    code?: string;
                    iss?: string;
                    error?: string;
                };
                header?: never;
                path: {
                    name: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: never;
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/openmetrics-text": string;
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/readyz": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Readiness"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        AccessEvent: {
            app: string;
            at_ms: number;
            balancer?: string | null;
            challenge?: components["schemas"]["ChallengeStep"] | null;
            check?: components["schemas"]["CheckKind"] | null;
            client: string;
            crawler?: boolean;
            deed?: components["schemas"]["Deed"] | null;
            duration_us: number;
            forwarded_id?: string | null;
            host: string;
            http_print?: string | null;
            id: components["schemas"]["RequestId"];
            ja4?: components["schemas"]["Ja4"] | null;
            method: string;
            peer: string;
            phases?: components["schemas"]["Phases"];
            plan_version: number;
            protocol: string;
            raised?: components["schemas"]["Raised"] | null;
            referer: string;
            request_bytes: number;
            response_bytes: number;
            route?: string | null;
            status: number;
            target: string;
            tls?: string | null;
            tls_group?: string | null;
            trace?: components["schemas"]["Trace"] | null;
            upstream?: string | null;
            upstream_us: number;
            user_agent: string;
            verdict: components["schemas"]["Verdict"];
            view_revision: number;
        };
        Action: "allow" | "observe" | "challenge" | "throttle" | "tarpit" | "deny";
        Actor: {
            /** @constant */
            kind: "ip";
            value: string;
        } | {
            /** @constant */
            kind: "client";
            value: {
                agent: string;
                ip: string;
            };
        } | {
            /** @constant */
            kind: "prefix";
            value: string;
        } | {
            /** @constant */
            kind: "asn";
            value: number;
        } | {
            /** @constant */
            kind: "country";
            value: components["schemas"]["Country"];
        } | {
            /** @constant */
            kind: "ja4";
            value: components["schemas"]["Ja4"];
        } | {
            /** @constant */
            kind: "session";
            value: string;
        } | {
            /** @constant */
            kind: "account";
            value: string;
        } | {
            /** @constant */
            kind: "software";
            value: string;
        } | {
            /** @constant */
            kind: "route";
            value: string;
        } | {
            /** @constant */
            kind: "app";
            value: string;
        } | {
            /** @constant */
            kind: "rules";
            value: string;
        };
        ActorsSeen: {
            answered: components["schemas"]["NodeName"][];
            clients: components["schemas"]["RefusedClient"][];
            from_ms?: number;
            silent: components["schemas"]["NodeName"][];
            step_ms?: number;
            to_ms?: number;
        };
        Affected: {
            kind: string;
            name?: string | null;
            value: string;
        };
        ApiTokenMade: {
            expires_at_ms: number;
            name: string;
            token: string;
        };
        ApiTokenRow: {
            apps: string[];
            created_at_ms: number;
            expires_at_ms: number;
            name: string;
            role: components["schemas"]["OperatorRole"];
        };
        App: {
            backtracking_patterns?: number;
            mode: string;
            name: string;
            paranoia: number;
            queue_refused?: number;
            raise_paranoia?: number | null;
            rate_limits?: components["schemas"]["RateLimit"][];
            retries?: number;
            retries_refused?: number;
            rule_count: number;
            rules: string;
            upstream: string;
            upstreams?: components["schemas"]["Upstream"][];
            waiting?: number;
        };
        AuditChain: {
            fault?: string | null;
            head: string;
            length: number;
            ok: boolean;
            whole: boolean;
        };
        AuditEntry: {
            at_ms: number;
            by?: string | null;
            data: unknown;
            hash: string;
            kind: string;
            seq: number;
            words: string;
        };
        AuditPage: {
            chain: components["schemas"]["AuditChain"];
            entries: components["schemas"]["AuditEntry"][];
            next?: number | null;
        };
        Author: {
            node: string;
            role: components["schemas"]["AuthorRole"];
            site: string;
        };
        AuthorRole: "node" | "operator";
        Authority: {
            changing_root: boolean;
            delegations?: components["schemas"]["Delegation"][];
            fleet: string;
            invitations: components["schemas"]["OpenInvitation"][];
            nodes: components["schemas"]["Enrolled"][];
            root: string;
            root_expires_at_ms: number;
            sites: string[];
        };
        Blocklist: {
            author: components["schemas"]["Author"];
            created_at_ms: number;
            held?: components["schemas"]["GoodShare"] | null;
            id: components["schemas"]["RequestId"];
            kind: components["schemas"]["DecisionKind"];
            name: string;
            prefixes: number;
            reason: string;
            until_ms: number;
            version: number;
            version_in_force?: number | null;
        };
        BlocklistContent: {
            author: components["schemas"]["Author"];
            created_at_ms: number;
            first: string[];
            held?: components["schemas"]["GoodShare"] | null;
            id: components["schemas"]["RequestId"];
            kind: components["schemas"]["DecisionKind"];
            name: string;
            prefixes: number;
            reason: string;
            until_ms: number;
            version: number;
            version_in_force?: number | null;
        };
        Bouncer: {
            agent?: string | null;
            created_at_ms: number;
            name: string;
            pulled_at_ms?: number | null;
            seen_at_ms?: number | null;
        };
        BouncerKey: {
            key: string;
            name: string;
        };
        Bouncers: {
            bouncers: components["schemas"]["Bouncer"][];
            listen?: string | null;
        };
        Certificate: {
            expires_at_ms: number;
            file: string;
            names: string[];
        };
        ChallengeStep: "given" | "solved" | "waited" | "failed" | "passed" | "spared" | "refused";
        CheckKind: "forward-auth" | "ext-authz";
        ClassCount: {
            refusals: number;
            signals: number;
        } & ({
            /** @constant */
            class: "detection";
            confidence: components["schemas"]["Confidence"];
        } | {
            /** @constant */
            class: "policy";
        } | {
            /** @constant */
            class: "protocol";
        });
        Confidence: "low" | "medium" | "high";
        CopiedBy: {
            heard: boolean;
            node: string;
            waiting: number;
        };
        CopyOf: {
            bytes: number;
            counts?: number;
            missed: number;
            node: string;
            rows: number;
        };
        Counters: {
            access_dropped: number;
            allowed: number;
            challenged?: number;
            connections_accepted: number;
            connections_open: number;
            connections_refused: number;
            denied: number;
            inspect_failures: number;
            inspect_us: number;
            malformed: number;
            observed: number;
            request_body_bytes: number;
            requests: number;
            response_body_bytes: number;
            security_dropped: number;
            strikes: number;
            throttled?: number;
            upstream_errors: number;
        };
        Country: string;
        Decision: {
            actor: components["schemas"]["Actor"];
            author: components["schemas"]["Author"];
            confidence_percent: number;
            created_at_ms: number;
            evidence?: components["schemas"]["RequestId"] | null;
            expires_at_ms: number;
            id: components["schemas"]["RequestId"];
            kind: components["schemas"]["DecisionKind"];
            reason: string;
            version: number;
        };
        DecisionKind: "raise_paranoia" | "throttle" | "challenge" | "ban" | "allow";
        DecisionMade: {
            actor: components["schemas"]["Actor"];
            author: components["schemas"]["Author"];
            confidence_percent: number;
            created_at_ms: number;
            evidence?: components["schemas"]["RequestId"] | null;
            exempt?: string | null;
            expires_at_ms: number;
            id: components["schemas"]["RequestId"];
            kind: components["schemas"]["DecisionKind"];
            reason: string;
            refuses?: components["schemas"]["GoodShare"] | null;
            version: number;
        };
        Deed: {
            account?: string | null;
            secret?: number | null;
            session?: string | null;
            shape?: string | null;
            step?: components["schemas"]["Step2"];
        };
        Delegate: {
            expires_at_ms?: number | null;
            fleet: string;
            invitations: components["schemas"]["OpenInvitation"][];
            nodes: components["schemas"]["Enrolled"][];
            site: string;
            untold: number;
        };
        Delegation: {
            expires_at_ms?: number | null;
            node: string;
            site: string;
        };
        Diagnostic: {
            file: string;
            help?: string | null;
            level: string;
            line: number;
            message: string;
        };
        Edition: {
            accuracy?: string;
            maturity?: string;
            rev?: string;
            ver?: string;
        };
        Enrolled: {
            control: boolean;
            expires_at_ms: number;
            node: string;
            revoked_at_ms?: number | null;
            site: string;
        };
        EventRow: {
            action: components["schemas"]["Action"];
            app: string;
            at_ms: number;
            client: string;
            host: string;
            id: components["schemas"]["RequestId"];
            method: string;
            node: string;
            reason: components["schemas"]["Reason"];
            rule_ids: number[];
            score: number;
            site: string;
            status: number;
            target: string;
            top?: components["schemas"]["TopFinding"] | null;
        };
        ExclusionRow: {
            app: string;
            expires_ms?: number | null;
            file: string;
            line: number;
            methods: string[];
            owner: string;
            reason: string;
            route?: string | null;
            rules: string[];
            state: components["schemas"]["ExclusionState"];
            target?: string | null;
        };
        ExclusionState: "in_force" | "ends_soon" | "expired";
        Explanation: {
            access: components["schemas"]["AccessEvent"];
            decision?: components["schemas"]["Decision"] | null;
            faults: components["schemas"]["FramingFault"][];
            id: components["schemas"]["RequestId"];
            led_to: components["schemas"]["Decision"][];
            like?: components["schemas"]["RequestId"] | null;
            next?: components["schemas"]["NextStep"][];
            node: string;
            plan_version: number;
            proposals: components["schemas"]["Proposal"][];
            signals: components["schemas"]["Signal"][];
            site: string;
            strikes: components["schemas"]["Strike"][];
            summary: string[];
        };
        Finding: {
            confidence: components["schemas"]["Confidence"];
            decisive: boolean;
            detector: string;
            events: number;
            first_at_ms: number;
            last_at_ms: number;
            reason: string;
            subject: components["schemas"]["Affected"];
            technique?: string | null;
        };
        Fix: {
            command: string;
            id: string;
            page: string;
            title: string;
            weight: number;
            why: string;
        };
        Fleet: {
            certificate_expires_at_ms?: number | null;
            connected: boolean;
            degraded: string[];
            kind: string;
            members: components["schemas"]["Member"][];
            queue: number;
        };
        FleetEvents: {
            answered: string[];
            copied?: string[];
            next?: components["schemas"]["RequestId"] | null;
            requests: components["schemas"]["RedactedRequest"][];
            silent: string[];
        };
        FramingFault: "length_and_transfer_encoding" | "repeated_length" | "bad_length" | "bad_transfer_encoding" | "transfer_encoding_in_http10" | "bare_line_feed" | "bare_carriage_return" | "folded_header" | "bad_header_line" | "control_byte" | "missing_host" | "repeated_host" | "bad_host" | "repeated_content_type" | "bad_request_line" | "bad_version" | "bad_chunk" | "bad_target" | "ambiguous_path" | "head_too_large" | "body_too_large" | "head_timeout" | "bad_question" | "bad_stream";
        GoodShare: {
            clients: number;
            of: number;
        };
        Health: {
            status: string;
        };
        Held: {
            held: components["schemas"]["HeldThing"][];
            measured_by?: number;
            total: number;
        };
        HeldThing: {
            actor?: components["schemas"]["Actor"] | null;
            addresses?: number | null;
            author: components["schemas"]["Author"];
            blocklist?: string | null;
            expires_at_ms?: number | null;
            id: components["schemas"]["RequestId"];
            kind: components["schemas"]["DecisionKind"];
            reason: string;
            share: components["schemas"]["GoodShare"];
            since_ms?: number | null;
            text: string;
            what: components["schemas"]["HeldWhat"];
        };
        HeldWhat: "decision" | "blocklist" | "range";
        HistoryCopies: {
            copied_by?: components["schemas"]["CopiedBy"][];
            copies_of?: components["schemas"]["CopyOf"][];
            refused?: number;
        };
        Import: {
            decisions: number;
            fault?: string | null;
            read_at_ms?: number | null;
            skipped?: string | null;
            source: string;
        };
        Incident: {
            changed_at_ms: number;
            closed_at_ms?: number | null;
            decisions: components["schemas"]["Decision"][];
            decisions_live: number;
            detectors: string[];
            evidence: components["schemas"]["RequestId"][];
            findings: components["schemas"]["Finding"][];
            findings_count: number;
            id: string;
            nodes: string[];
            opened_at_ms: number;
            parts: string[];
            playbooks?: components["schemas"]["PlaybookRun"][];
            severity: string;
            stage: string;
            state: string;
            summary: string;
            targets?: string[];
            techniques: string[];
            title?: string;
            undone_at_ms?: number | null;
        };
        IncidentRow: {
            changed_at_ms: number;
            closed_at_ms?: number | null;
            decisions_live: number;
            detectors: string[];
            findings_count: number;
            id: string;
            nodes: string[];
            opened_at_ms: number;
            severity: string;
            stage: string;
            state: string;
            summary: string;
            techniques: string[];
            title?: string;
            undone_at_ms?: number | null;
        };
        Invited: {
            expires_at_ms: number;
            id: string;
            token: string;
        };
        Ja4: string;
        Learning: {
            actors: number;
            bytes: number;
            events: number;
            events_dropped: number;
            incidents_open: number;
            mode: string;
            named_by?: string | null;
            peers_heard: number;
            refused: number;
            signals: number;
            usual?: components["schemas"]["Usual"];
        };
        LetsPass: {
            examples: components["schemas"]["RedactedRequest"][];
            others: number;
            own: number;
            passed: number;
        };
        LimitCount: {
            count: number;
            limit: string;
        };
        Load: {
            connections: number;
            connections_limit: number;
            files: number;
            files_limit: number;
            level: string;
            level_number: number;
            limits_reached: components["schemas"]["LimitCount"][];
            memory_bytes: number;
            memory_limit_bytes: number;
        };
        LoginLink: {
            expires_at_ms: number;
            url: string;
        };
        LoginProvider: {
            name: string;
            title: string;
            works: boolean;
        };
        Me: {
            account?: components["schemas"]["OperatorRow"] | null;
            apps?: string[] | null;
            author?: string;
            enrolling: boolean;
            fresh_until_ms?: number | null;
            name: string;
            operators: boolean;
            role: components["schemas"]["OperatorRole"];
            session?: string | null;
        };
        Member: {
            decisions: number;
            duty?: string;
            held?: number;
            lag_ms: number;
            last_seen_ms: number;
            me: boolean;
            node: string;
            online: boolean;
            order_reason?: string;
            policy?: components["schemas"]["MemberPolicy"] | null;
            selftest?: components["schemas"]["SelfTestState"];
            site: string;
            version: string;
        };
        MemberPolicy: {
            hash: string;
            refused?: string | null;
            refused_version?: number | null;
            trial_clients?: number | null;
            trial_erred?: number | null;
            trial_refused?: number | null;
            version: number;
        };
        Narrow: {
            methods: string[];
            path?: string | null;
            rules: number[];
            target?: string | null;
        };
        NewApiToken: {
            apps?: string[];
            for_ms: number;
            name: string;
            role: components["schemas"]["OperatorRole"];
        };
        NewBouncer: {
            name: string;
        };
        NewDecision: {
            account?: string | null;
            asn?: number | null;
            country?: string | null;
            for_ms: number;
            force?: boolean;
            ip?: string | null;
            ja4?: string | null;
            kind?: components["schemas"]["DecisionKind"];
            place?: string | null;
            prefix?: string | null;
            reason: string;
            session?: string | null;
            software?: string | null;
        };
        NewDelegation: {
            for_ms: number;
            node: string;
            site: string;
        };
        NewExclusion: {
            although_not_enough?: boolean;
            bake_ms?: number | null;
            canary_node?: string | null;
            canary_site?: string | null;
            expires_ms: number;
            owner: string;
            reason: string;
            request: components["schemas"]["RequestId"];
            shown: string;
        };
        NewInvitation: {
            addresses?: string[];
            control?: boolean;
            for_ms: number;
            policy_version_min?: number;
            server?: boolean;
            site: string;
        };
        NewNodeOrder: {
            duty: components["schemas"]["NodeDuty"];
            node: string;
            reason?: string;
            site: string;
        };
        NewOperator: {
            apps?: string[];
            name: string;
            role: components["schemas"]["OperatorRole"];
        };
        NewPasskey: {
            authenticator_data: string;
            client_data: string;
            label: string;
        };
        NewPassword: {
            code: string;
            password: string;
        };
        NewPolicyChange: {
            bake_ms?: number | null;
            base?: number | null;
            canary_node?: string | null;
            canary_site?: string | null;
            content_of?: number | null;
            entry?: string;
            files?: {
                [key: string]: string;
            };
            reason?: string;
            source?: string | null;
        };
        NewRevocation: {
            node: string;
            reason?: string;
            site: string;
            withdraw?: boolean;
        };
        NextStep: {
            command: string;
            what: string;
        };
        NodeDuty: "serve" | "cordon" | "drain" | "evict";
        NodeName: {
            node: string;
            site: string;
        };
        NodeOrder: {
            by: string;
            duty: components["schemas"]["NodeDuty"];
            given_at_ms: number;
            node: string;
            reason: string;
            site: string;
        };
        OpenInvitation: {
            control: boolean;
            expires_at_ms: number;
            id: string;
            site: string;
        };
        OperatorEdit: {
            apps?: string[] | null;
            disabled?: boolean | null;
            role?: components["schemas"]["OperatorRole"] | null;
        };
        OperatorInvited: {
            expires_at_ms: number;
            operator: components["schemas"]["OperatorRow"];
            url?: string | null;
        };
        OperatorRole: "viewer" | "responder" | "editor" | "owner";
        OperatorRow: {
            apps: string[];
            created_at_ms: number;
            created_by: string;
            disabled: boolean;
            made_on?: string;
            name: string;
            passkeys: components["schemas"]["PasskeyRow"][];
            password: boolean;
            provider?: string | null;
            recovery_codes: number;
            role: components["schemas"]["OperatorRole"];
            tokens: components["schemas"]["ApiTokenRow"][];
            via?: string;
        };
        Outcome: "passed" | "failed" | "unknown";
        Part: "access_log" | "history" | "ledger" | "modsecurity_log" | "audit_log" | "event_log" | "event_syslog" | "event_otlp" | "recording";
        PartReport: {
            dropped: number;
            error?: string | null;
            failing_since_ms?: number | null;
            part: components["schemas"]["Part"];
            written: number;
        };
        PassesRecorded: {
            complete: boolean;
            examples: components["schemas"]["ReplayExample"][];
            others: number;
            own: number;
            passed: number;
        };
        PasskeyChallenge: {
            challenge: string;
            host: string;
            keys: string[];
            user?: [
                string,
                string
            ] | null;
        };
        PasskeyRow: {
            created_at_ms: number;
            host: string;
            id: string;
            label: string;
            used_at_ms: number;
        };
        PasskeySigned: {
            authenticator_data: string;
            client_data: string;
            id: string;
            signature: string;
        };
        PasswordLogin: {
            code: string;
            name: string;
            password: string;
        };
        Phases: {
            connect_us: number;
            head_us: number;
            inspect_us: number;
            queue_us: number;
            upstream_us: number;
        };
        Plan: {
            apps: components["schemas"]["App"][];
            bundle?: string | null;
            version: number;
        };
        PlaybookAnswer: {
            step: string;
            yes: boolean;
        };
        PlaybookQuestion: {
            otherwise: string;
            question: string;
            step: string;
            until_ms: number;
        };
        PlaybookRow: {
            about: string;
            detectors: string[];
            manual: boolean;
            name: string;
            running: number;
            steps: string[];
            version: number;
        };
        PlaybookRun: {
            asks?: components["schemas"]["PlaybookQuestion"] | null;
            began_at_ms: number;
            ended_at_ms?: number | null;
            incident: string;
            playbook: string;
            run: string;
            state: string;
            steps: components["schemas"]["PlaybookStepRun"][];
            version: number;
        };
        PlaybookStart: {
            incident: string;
        };
        PlaybookStepRun: {
            began_at_ms?: number | null;
            does: string;
            ended_at_ms?: number | null;
            note: string;
            state: string;
            step: string;
        };
        Policy: {
            chain: components["schemas"]["PolicyVersion"][];
            changed_at_ms: number;
            epoch: number;
            has_file?: boolean;
            home: string;
            nodes: components["schemas"]["PolicyNode"][];
            note: string;
            serial: number;
            stable?: components["schemas"]["PolicyVersion"] | null;
            trial?: components["schemas"]["PolicyTrial"] | null;
            unchanged?: boolean;
            version: number;
        };
        PolicyApproval: {
            hash: string;
            reason?: string;
        };
        PolicyChange: {
            approved_by?: string | null;
            at_ms: number;
            author: string;
            base: number;
            dangers: components["schemas"]["PolicyDifference"][];
            decided_at_ms?: number | null;
            decided_reason: string;
            diff: components["schemas"]["PolicyDifference"][];
            diff_left_out: number;
            expires_at_ms: number;
            hash: string;
            id: string;
            needs_second: boolean;
            reason: string;
            source: string;
            stage?: string | null;
            state: components["schemas"]["PolicyChangeState"];
            version?: number | null;
        };
        PolicyChangeState: "waiting" | "published" | "rejected" | "expired";
        PolicyChecked: {
            ok: boolean;
            problems: components["schemas"]["Diagnostic"][];
        };
        PolicyCompare: {
            against?: string;
            entry: string;
            files: {
                [key: string]: string;
            };
        };
        PolicyContent: {
            entry: string;
            files: {
                [key: string]: string;
            };
            hash?: string | null;
            version: number;
            withheld: string[];
        };
        PolicyDiffered: {
            changes: components["schemas"]["PolicyDifference"][];
            dangers: components["schemas"]["PolicyDifference"][];
            same: boolean;
        };
        PolicyDifference: {
            app?: string | null;
            route?: string | null;
            words: string;
        };
        PolicyFiles: {
            entry: string;
            files: {
                [key: string]: string;
            };
        };
        PolicyFollowState: "in_step" | "moved" | "waiting" | "refused" | "unsigned" | "conflict" | "failed";
        PolicyFollower: {
            at_ms: number;
            by: string;
            said: components["schemas"]["PolicyFollowing"];
            silent: boolean;
            well_at_ms?: number | null;
        };
        PolicyFollowing: {
            behind?: number;
            commit?: string | null;
            every_ms?: number | null;
            name: string;
            state: components["schemas"]["PolicyFollowState"];
            version?: number;
            words: string;
        };
        PolicyHome: {
            site: string;
        };
        PolicyNode: {
            node: string;
            online: boolean;
            policy?: components["schemas"]["MemberPolicy"] | null;
            site: string;
        };
        PolicyPush: {
            bake_ms?: number | null;
            canary_node?: string | null;
            canary_site?: string | null;
            entry: string;
            expect?: number | null;
            files: {
                [key: string]: string;
            };
            reason?: string;
            source?: string | null;
        };
        PolicyRejection: {
            reason?: string;
        };
        PolicyReloaded: {
            from: number;
            to: number;
        };
        PolicyReplay: {
            entry: string;
            files: {
                [key: string]: string;
            };
            last_ms: number;
        };
        PolicyRollback: {
            reason?: string;
            to?: number | null;
        };
        PolicyTrial: {
            bake_ms?: number | null;
            bytes: number;
            hash: string;
            judgement: string;
            previous?: string | null;
            stage: string;
            started_at_ms: number;
            version: number;
        };
        PolicyVersion: {
            bytes: number;
            hash: string;
            previous?: string | null;
            version: number;
        };
        PolicyVersionRow: {
            approved_by?: string | null;
            at_ms?: number | null;
            author?: string | null;
            bytes: number;
            hash: string;
            node?: string | null;
            previous?: string | null;
            reason: string;
            result: string;
            result_at_ms?: number | null;
            result_reason: string;
            source: string;
            stable: boolean;
            version: number;
        };
        Problem: {
            code: string;
            detail: string;
            diagnostics?: components["schemas"]["Diagnostic"][];
            node?: string | null;
            site?: string | null;
            status: number;
            title: string;
            type: string;
        };
        Process: {
            confinement: string[];
            id: number;
        };
        Proof: {
            code?: string | null;
            passkey?: components["schemas"]["PasskeySigned"] | null;
        };
        Proposal: {
            actor: components["schemas"]["Actor"];
            at_ms: number;
            confidence_percent: number;
            evidence: components["schemas"]["RequestId"];
            for_ms: number;
            kind: components["schemas"]["DecisionKind"];
            reason: string;
        };
        ProviderLogin: {
            url: string;
        };
        ProviderRow: {
            ahead_ms?: number | null;
            asked_at_ms: number;
            client_id: string;
            fault?: string | null;
            issuer: string;
            keys?: number | null;
            name: string;
            redirects: string[];
            title: string;
        };
        Raised: {
            decision: components["schemas"]["RequestId"];
            level: number;
            until_ms: number;
        };
        RateExcess: {
            elsewhere: number;
            here: number;
            key: string;
            limit: string;
            over: number;
            rate: string;
            retry_after_s: number;
        };
        RateLimit: {
            admitted: number;
            fleet: boolean;
            key: string;
            name: string;
            observed: number;
            observes: boolean;
            rate: string;
            refused: number;
        };
        Readiness: {
            degraded: string[];
            ready: boolean;
            reasons: string[];
        };
        Reason: {
            /** @constant */
            kind: "clean";
        } | {
            /** @constant */
            kind: "allow_listed";
        } | {
            /** @constant */
            kind: "network";
        } | {
            /** @constant */
            kind: "challenge";
        } | {
            /** @constant */
            kind: "rule";
            rule: number;
        } | {
            decision: components["schemas"]["Decision"];
            /** @constant */
            kind: "decision";
        } | {
            fault: components["schemas"]["FramingFault"];
            /** @constant */
            kind: "framing";
        } | {
            /** @constant */
            kind: "limit";
            limit: string;
        } | components["schemas"]["RateExcess"] | {
            /** @constant */
            kind: "failure";
            stage: string;
        } | {
            error: string;
            /** @constant */
            kind: "upstream";
        };
        Recall: {
            author: components["schemas"]["Author"];
            created_at_ms: number;
            expires_at_ms: number;
            id: components["schemas"]["RequestId"];
            reason: string;
            target: components["schemas"]["Author"];
            up_to_version: number;
        };
        ReceiverRow: {
            kind: string;
            name: string;
        };
        ReceiverTested: {
            error?: string | null;
            ok: boolean;
        };
        RecoveryCodes: {
            codes: string[];
        };
        RedactedRequest: {
            action: components["schemas"]["Action"];
            app: string;
            at_ms: number;
            copied_by?: string | null;
            id: components["schemas"]["RequestId"];
            led_to: string[];
            method: string;
            network: string;
            node: string;
            path: string;
            reason: string;
            rule_ids: number[];
            score: number;
            site: string;
            status: number;
            summary?: string[];
        };
        RefusedClient: {
            asn?: number | null;
            client: string;
            country?: string | null;
            last_ms: number;
            points?: number[];
            refused: number;
            rules: number[];
        };
        ReplayChange: "refused" | "passed";
        ReplayExample: {
            id: components["schemas"]["RequestId"];
            request: string;
        };
        ReplayGroup: {
            app: string;
            change: components["schemas"]["ReplayChange"];
            clients: number;
            examples: components["schemas"]["ReplayExample"][];
            requests: number;
            route?: string | null;
            rules: number[];
            why: string;
        };
        Replayed: {
            complete: boolean;
            damaged: number;
            groups: components["schemas"]["ReplayGroup"][];
            groups_left_out: number;
            lacks_body: number;
            newly_passed: number;
            newly_refused: number;
            not_reproduced: number;
            not_reproduced_examples: components["schemas"]["ReplayExample"][];
            requests: number;
            seen: number;
            since_ms: number;
        };
        Report: {
            answered: components["schemas"]["NodeName"][];
            app?: string | null;
            before: components["schemas"]["TrafficTotals"];
            before_from_ms?: number;
            before_to_ms?: number;
            clients: components["schemas"]["RefusedClient"][];
            copied?: components["schemas"]["NodeName"][];
            counted_since_ms?: number | null;
            from_ms: number;
            incidents: components["schemas"]["IncidentRow"][];
            made_at_ms: number;
            over_time: components["schemas"]["ReportStep"][];
            parts: components["schemas"]["ReportPart"][];
            rounded_ms?: number | null;
            rules?: {
                [key: string]: string;
            };
            silent: components["schemas"]["NodeName"][];
            step_ms: number;
            time_zone?: string;
            to_ms: number;
            totals: components["schemas"]["TrafficTotals"];
        };
        ReportLast: {
            at_ms: number;
            due_ms: number;
            error?: string | null;
            from_ms: number;
            state: string;
            to_ms: number;
        };
        ReportPart: {
            by: string;
            others: number;
            rows: components["schemas"]["ReportRow"][];
        };
        ReportRow: {
            key: string;
            requests: number;
        };
        ReportScheduleRow: {
            app?: string | null;
            last?: components["schemas"]["ReportLast"] | null;
            name: string;
            next_ms: number;
            to: string[];
            when: string;
        };
        ReportSent: {
            from_ms: number;
            to_ms: number;
            told: components["schemas"]["ReportTold"][];
        };
        ReportStep: {
            at_ms: number;
            refused: number;
            requests: number;
        };
        ReportTold: {
            error?: string | null;
            ok: boolean;
            to: string;
        };
        RequestId: string;
        Restored: {
            decisions: components["schemas"]["RestoredCount"];
            dry_run: boolean;
            lists: components["schemas"]["RestoredCount"];
            made_at_ms: number;
            made_by: string;
            members: number;
            policy_version: number;
            revocations: components["schemas"]["RestoredCount"];
            withdrawals: components["schemas"]["RestoredCount"];
        };
        RestoredCount: {
            ended: number;
            expired: number;
            known: number;
            refused: number;
            restored: number;
        };
        Revoked: {
            node: string;
            site: string;
            up_to_ms: number;
        };
        RuleClass: {
            /** @constant */
            class: "detection";
            confidence: components["schemas"]["Confidence"];
        } | {
            /** @constant */
            class: "policy";
        } | {
            /** @constant */
            class: "protocol";
        };
        RuleInfo: {
            class: components["schemas"]["RuleClass"];
            edition?: components["schemas"]["Edition"];
            file: string;
            id: number;
            line: number;
            severity?: components["schemas"]["Severity"] | null;
            tags: string[];
        };
        RuleMatch: {
            fragment: string;
            steps?: components["schemas"]["Step"][];
            transformations: string[];
            value?: string | null;
            value_hash: number;
            variable: string;
        };
        ScoreChange: {
            after: number;
            before: number;
        };
        SelfTest: {
            every_ms?: number | null;
            failing_since_ms?: number | null;
            last?: components["schemas"]["SelfTestRun"] | null;
            state: components["schemas"]["SelfTestState"];
        };
        SelfTestCase: {
            app: string;
            detail: string;
            expected: string;
            got: string;
            listener: string;
            name: string;
            ok: boolean;
            outcome: components["schemas"]["SelfTestOutcome"];
        };
        SelfTestOutcome: "passed" | "failed" | "not_protected" | "skipped";
        SelfTestRun: {
            at_ms: number;
            cases: components["schemas"]["SelfTestCase"][];
            ok: boolean;
            took_ms: number;
        };
        SelfTestState: "ok" | "failing" | "unknown";
        SessionRow: {
            id: string;
            me: boolean;
            opened_at_ms: number;
            operator?: string | null;
            seen_at_ms: number;
        };
        Settled: {
            blocklist?: string | null;
            decision?: components["schemas"]["Decision"] | null;
            withdrawal?: components["schemas"]["Withdrawal"] | null;
        };
        /** @enum {string} */
        Severity: "emergency" | "alert" | "critical" | "error" | "warning" | "notice" | "info" | "debug";
        Signal: {
            data: string;
            inbound?: components["schemas"]["ScoreChange"] | null;
            matches: components["schemas"]["RuleMatch"][];
            message: string;
            observed?: boolean;
            phase: number;
            rule: components["schemas"]["RuleInfo"];
            score: number;
            verbatim?: boolean;
        };
        SpanId: string;
        Status: {
            bouncers?: components["schemas"]["Bouncer"][];
            certificates?: components["schemas"]["Certificate"][];
            classes?: components["schemas"]["ClassCount"][];
            counters: components["schemas"]["Counters"];
            decisions_live: number;
            fleet: components["schemas"]["Fleet"];
            following?: components["schemas"]["PolicyFollower"][];
            held?: number;
            history?: components["schemas"]["HistoryCopies"];
            imports?: components["schemas"]["Import"][];
            learning?: components["schemas"]["Learning"];
            load?: components["schemas"]["Load"];
            node: string;
            not_ready?: string | null;
            now_ms: number;
            plan: components["schemas"]["Plan"];
            process?: components["schemas"]["Process"];
            ready: boolean;
            recorder: components["schemas"]["PartReport"][];
            selftest?: components["schemas"]["SelfTestState"];
            site: string;
            started_at_ms: number;
            version: string;
        };
        Step: {
            changed: boolean;
            name: string;
            value?: string | null;
        };
        Step2: "page" | "asset" | {
            login: components["schemas"]["Outcome"];
        } | "lookup" | {
            payment: components["schemas"]["Outcome"];
        };
        Strike: {
            actor: components["schemas"]["Actor"];
            at_ms: number;
            count: number;
            request: components["schemas"]["RequestId"];
        };
        Suggestion: {
            app: string;
            exclusions: components["schemas"]["Narrow"][];
            id: components["schemas"]["RequestId"];
            lets_pass: components["schemas"]["LetsPass"];
            passes: boolean;
            recording?: components["schemas"]["PassesRecorded"] | null;
            shown?: string;
            toml: string;
            warnings: string[];
        };
        TopFinding: {
            file: string;
            fragment: string;
            line: number;
            message: string;
            rule: number;
            variable: string;
        };
        TotpOffer: {
            secret: string;
            uri: string;
        };
        Trace: {
            id: components["schemas"]["TraceId"];
            parent?: components["schemas"]["SpanId"] | null;
            sampled?: boolean;
            span?: components["schemas"]["SpanId"] | null;
        };
        TraceId: string;
        TrafficOthers: {
            points: number[];
            total: number;
        };
        TrafficSeen: {
            answered: components["schemas"]["NodeName"][];
            begins_ms?: number | null;
            copied?: components["schemas"]["NodeName"][];
            from_ms: number;
            others: components["schemas"]["TrafficOthers"];
            series: components["schemas"]["TrafficSeries"][];
            silent: components["schemas"]["NodeName"][];
            step_ms: number;
            to_ms: number;
            totals: components["schemas"]["TrafficTotals"];
        };
        TrafficSeries: {
            key: string;
            points: number[];
            total: number;
            words?: string | null;
        };
        TrafficTotals: {
            challenged: number;
            dropped: number;
            errors: number;
            observed: number;
            refused: number;
            requests: number;
            throttled: number;
        };
        Undone: {
            id: string;
            left: components["schemas"]["Actor"][];
            withdrawn: components["schemas"]["Actor"][];
        };
        UpgradeBegun: {
            from: number;
        };
        Upstream: {
            address: string;
            backup: boolean;
            failures: number;
            in_flight: number;
            requests: number;
            server: string;
            state: string;
            weight: number;
        };
        Usual: {
            all: number;
            by_hour_of_day: number;
            by_hour_of_week: number;
            from_history: number;
            known: number;
            minutes_left?: number | null;
        };
        Verdict: {
            action: components["schemas"]["Action"];
            reason: components["schemas"]["Reason"];
            score: number;
            status: number;
        };
        Withdrawal: {
            actor: components["schemas"]["Actor"];
            author: components["schemas"]["Author"];
            created_at_ms: number;
            expires_at_ms: number;
            id: components["schemas"]["RequestId"];
            reason: string;
            up_to_version: number;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export type operations = Record<string, never>;
