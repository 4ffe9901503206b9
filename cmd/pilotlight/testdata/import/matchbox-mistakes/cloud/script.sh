#!/bin/sh
echo {{.zone}}
