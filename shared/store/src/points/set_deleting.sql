-- $1: the restore point, $2: how many others of its guest must be good and verified, $3: only newer ones count.
SELECT virtuozo_core.begin_delete($1, $2, $3)
