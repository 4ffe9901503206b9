// Package httpboot serves over HTTP what a machine fetches to boot: the iPXE
// scripts, loaders for UEFI HTTP Boot, kernels, initial RAM disks and root file
// systems, its config, and the agent.
//
// Scripts, images, loaders and the agent are no secret. A config is for one
// machine, so who asks for one has to say who it is, and its address has to be
// the one that is lent to it; where another server lends, the one that it is
// seen to have. A config that cannot be given yet is answered
// with 503 and never with 404: Ignition asks again after the one and gives up
// after the other.
//
// It makes no config and reads no image by itself: Configs and Files do.
package httpboot
