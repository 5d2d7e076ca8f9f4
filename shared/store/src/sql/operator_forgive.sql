SELECT virtuozo.forgive($1, $2)
