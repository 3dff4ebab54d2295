-- Who may do what: roles and who has them. The same columns as every kind has; see 0001.

CREATE TABLE core_roles (LIKE paas_plans INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE core_clusterroles (LIKE paas_plans INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE core_rolebindings (LIKE paas_plans INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE core_clusterrolebindings (LIKE paas_plans INCLUDING ALL) WITH (fillfactor = 80);
