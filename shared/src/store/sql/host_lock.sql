-- Who pairs slots with runs, or claims obligations, of one host does so alone. Tells whether any cap reaches
-- over hosts.
SELECT virtuozo_core.has_caps() FROM virtuozo_core.hosts WHERE id = $1 FOR NO KEY UPDATE
