SELECT virtuozo.resume($1)
