-- Quotas, and the kinds themselves as read-only objects.

CREATE TABLE core_resourcequotas (LIKE paas_plans INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE core_definitions (LIKE paas_plans INCLUDING ALL) WITH (fillfactor = 80);
